"""The prober asks the runner what its runtime is once, and again when anything that the answer depends on has changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.devices import program

ASKED = """\
import json, sys, onnxruntime
open({calls!r}, "a").write("x")
print(json.dumps({{"numpy": "2.0.0", "onnxruntime": {{"version": onnxruntime.__version__, "providers": ["CPUExecutionProvider"]}}}}))
"""


@dataclass
class Board:
    """A folder in place of a device: packages, a runner that counts how often it is asked, and what is kept."""

    folder: Path
    runner: str = "runner.py"

    @property
    def kept(self) -> Path:
        return self.folder / "imported"

    @property
    def package(self) -> Path:
        return self.folder / "packages" / "onnxruntime" / "__init__.py"

    def probe(self) -> dict[str, Any]:
        words = [program.prober(), self.folder / self.runner, self.kept]
        env = {**os.environ, "PYTHONPATH": str(self.folder / "packages")}
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=env, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def asked(self) -> int:
        calls = self.folder / "calls"
        return len(calls.read_text()) if calls.exists() else 0


@pytest.fixture
def board(tmp_path: Path) -> Board:
    made = Board(tmp_path)
    for name in ("numpy", "onnxruntime"):
        (tmp_path / "packages" / name).mkdir(parents=True)
        (tmp_path / "packages" / name / "__init__.py").write_text("__version__ = '1.0.0'\n")
    (tmp_path / "runner.py").write_text(ASKED.format(calls=str(tmp_path / "calls")))
    return made


def test_it_asks_once(board: Board) -> None:
    first, second = board.probe(), board.probe()
    assert first["onnxruntime"] == second["onnxruntime"] == {"version": "1.0.0", "providers": ["CPUExecutionProvider"]}
    assert second["numpy"] == "2.0.0"
    assert board.asked() == 1


def test_a_package_that_was_installed_anew_is_asked_again(board: Board) -> None:
    board.probe()
    # As pip does it: another file in the place of the old one, be it of the same age and length.
    old = board.package.stat()
    new = board.package.with_name("new")
    new.write_text("__version__ = '2.0.0'\n")
    os.utime(new, ns=(old.st_atime_ns, old.st_mtime_ns))
    new.replace(board.package)
    assert board.probe()["onnxruntime"]["version"] == "2.0.0"
    assert board.asked() == 2


def test_another_runner_is_asked_itself(board: Board) -> None:
    board.probe()
    (board.folder / "other.py").write_text("raise SystemExit('not this one')")
    board.runner = "other.py"
    assert board.probe()["onnxruntime"] == {"error": "not this one"}


def test_after_a_new_start_of_the_device_it_asks_again(board: Board) -> None:
    board.probe()
    kept = json.loads(board.kept.read_text())
    assert kept["of"][1] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    kept["of"][1] = "an earlier start"
    board.kept.write_text(json.dumps(kept))
    board.probe()
    assert board.asked() == 2


def test_an_import_that_fails_is_tried_each_time(board: Board) -> None:
    good = board.package.read_text()
    board.package.write_text("raise ImportError('no libgomp')\n")
    assert board.probe()["onnxruntime"] == {"error": "ImportError: no libgomp"}
    assert not board.kept.exists()
    board.package.write_text(good)
    assert board.probe()["onnxruntime"]["version"] == "1.0.0"


def test_a_runtime_that_is_not_there_is_no_matter_of_what_was_kept(board: Board) -> None:
    board.probe()
    board.package.unlink()
    board.package.parent.rmdir()
    (board.folder / "packages" / "onnxruntime.py").write_text("raise ImportError('gone')\n")
    assert board.probe()["onnxruntime"] == {"error": "ImportError: gone"}


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"of": []}', '{"answer": {}}', "\x00\xff" * 99, "[" * 500_000])
def test_a_damaged_file_is_asked_about_again(board: Board, text: str) -> None:
    board.kept.write_text(text, encoding="latin-1")
    assert board.probe()["onnxruntime"]["version"] == "1.0.0"
    assert json.loads(board.kept.read_text())["answer"]["numpy"] == "2.0.0"


def test_an_answer_that_was_damaged_is_asked_for_again(board: Board) -> None:
    board.probe()
    board.kept.write_text(board.kept.read_text().replace('"1.0.0"', '"1.0.1"'))
    assert board.probe()["onnxruntime"]["version"] == "1.0.0"
    assert board.asked() == 2


def test_what_is_no_file_is_replaced(board: Board) -> None:
    os.mkfifo(board.kept)
    assert board.probe()["onnxruntime"]["version"] == "1.0.0"
    assert json.loads(board.kept.read_text())["answer"]["numpy"] == "2.0.0"


def test_packages_of_an_archive_are_asked_each_time(board: Board) -> None:
    packages = board.folder / "packages"
    kept = [(path.relative_to(packages), path.read_text()) for path in packages.rglob("*.py")]
    shutil.rmtree(packages)
    with zipfile.ZipFile(packages, "w") as archive:
        for path, text in kept:
            archive.writestr(str(path), text)
    for _ in range(2):
        assert board.probe()["onnxruntime"]["version"] == "1.0.0"
    assert board.asked() == 2


def test_a_place_that_cannot_be_written_costs_nothing_but_time(board: Board) -> None:
    board.kept.mkdir()
    (board.kept / "full").touch()
    for _ in range(2):
        assert board.probe()["onnxruntime"]["version"] == "1.0.0"
    assert board.asked() == 2
