"""Which wheels fit a device, and where they come from."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.devices.provisioning import wheels
from harness.devices.provisioning.machine import Target
from harness.devices.provisioning.wheels import NoWheelError
from harness.errors import UsageError
from harness.paths import cache
from tests.wheelhouse import wheel, wheelhouse

BOARD = Target("aarch64", "3.11", "cp311", 36)


@pytest.mark.parametrize("arch", ["aarch64", "x86_64"])
@pytest.mark.parametrize("glibc", [36, 28, 17])
def test_tags_go_from_the_devices_glibc_down_to_the_oldest(arch: str, glibc: int) -> None:
    tags = Target(arch, "3.11", "cp311", glibc).tags()
    assert tags[0] == f"manylinux_2_{glibc}_{arch}"
    assert tags[-2:] == [f"manylinux_2_17_{arch}", f"manylinux2014_{arch}"]
    assert len(tags) == len(set(tags)) == glibc - 17 + 2


def test_pip_is_asked_for_every_tag_and_for_binaries_only() -> None:
    options = BOARD.options()
    assert options[0] == "--only-binary=:all:"
    assert options.count("--platform") == 21
    assert options[-4:] == ["--implementation", "cp", "--python-version", "3.11"]
    assert Target("aarch64", "3.13", "cp313t", 36).options()[-4:] == ["--abi", "cp313t", "--abi", "none"]


def test_a_wheelhouse_gives_the_two_wheels_that_are_needed(tmp_path: Path) -> None:
    folder = wheelhouse(tmp_path / "house", "1.31.1", "1.30.0")
    wheel(folder, "onnxruntime", "1.32.0", requires=("numpy", "packaging"))
    wheel(folder, "packaging", "26.0")
    found = wheels.fetch(BOARD, "1.32.0", folder)
    assert [(one.name, one.version) for one in found] == [("onnxruntime", "1.32.0"), ("numpy", "2.4.6")]
    assert {one.path.parent for one in found} == {folder}
    assert wheels.fetch(BOARD, "1.30.0", folder)[0].version == "1.30.0"
    assert wheels.fetch(BOARD, None, folder)[0].version == "1.32.0"
    assert list((cache() / "wheels").iterdir()) == []


def test_a_wheel_for_another_machine_does_not_fit(tmp_path: Path) -> None:
    folder = wheelhouse(tmp_path / "house", "1.23.2")
    wheel(folder, "onnxruntime", "1.31.1", tag="cp311-cp311-manylinux_2_28_aarch64")
    assert wheels.fetch(BOARD, None, folder)[0].version == "1.31.1"
    for other in (
        Target("x86_64", "3.11", "cp311", 36),
        Target("aarch64", "3.10", "cp310", 36),
        Target("aarch64", "3.11", "cp311", 27),
    ):
        assert wheels.fetch(other, None, folder)[0].version == "1.23.2"


def test_a_version_that_does_not_fit_names_those_that_do(tmp_path: Path) -> None:
    folder = wheelhouse(tmp_path / "house", "1.23.2", "1.30.0")
    with pytest.raises(NoWheelError, match=r"what fits: 1\.23\.2, 1\.30\.0") as caught:
        wheels.fetch(BOARD, "1.31.1", folder)
    assert caught.value.known == ["1.23.2", "1.30.0"]


def test_an_empty_wheelhouse(tmp_path: Path) -> None:
    with pytest.raises(NoWheelError, match="what fits: none") as caught:
        wheels.fetch(BOARD, None, tmp_path)
    assert caught.value.known == []


def test_a_wheelhouse_that_lacks_what_goes_with_it(tmp_path: Path) -> None:
    wheel(tmp_path, "onnxruntime", "1.31.1", requires=("numpy>=2",))
    with pytest.raises(NoWheelError, match=r"there is no numpy.* to go with it"):
        wheels.fetch(BOARD, "1.31.1", tmp_path)
    wheel(tmp_path, "onnxruntime", "1.30.0")
    with pytest.raises(NoWheelError, match="there is no numpy to go with it"):
        wheels.fetch(BOARD, "1.30.0", tmp_path)


def test_a_kept_folder_that_lost_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheelhouse(tmp_path / "index", "1.31.1")))
    wheels.fetch(BOARD, "1.31.1", None)[1].path.unlink()
    assert len(wheels.fetch(BOARD, "1.31.1", None)) == 2


def test_an_onnxruntime_from_before_numpy_2_gets_an_older_numpy(tmp_path: Path) -> None:
    folder = wheelhouse(tmp_path / "house", "1.16.3")
    wheel(folder, "numpy", "1.26.4")
    for version in ("1.16.3", None):
        assert [one.version for one in wheels.fetch(BOARD, version, folder)] == ["1.16.3", "1.26.4"]


def test_pip_is_used_as_it_is_set_up_here_and_what_it_brought_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = wheelhouse(tmp_path / "index", "1.30.0", "1.31.1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    newest = wheels.fetch(BOARD, None, None)
    assert newest[0].version == "1.31.1"
    assert newest == wheels.fetch(BOARD, None, None)
    shutil.rmtree(folder)
    assert wheels.fetch(BOARD, "1.31.1", None) == newest
    with pytest.raises(NoWheelError):
        wheels.fetch(BOARD, "1.30.0", None)
    assert [path.name for path in (cache() / "wheels").iterdir()] == ["onnxruntime-1.31.1-cp311-aarch64-glibc2.36"]


@pytest.mark.parametrize(
    ("stderr", "kind", "words"),
    [
        ("/usr/bin/python3: No module named pip\n", UsageError, "has no pip.*-m ensurepip"),
        ("WARNING: slow\nERROR: ResolutionImpossible: for help\n", NoWheelError, "pip: ResolutionImpossible"),
        ("OSError: disk full", NoWheelError, "pip: OSError: disk full"),
        ("", NoWheelError, "pip: no message"),
    ],
)
def test_what_else_pip_can_say(monkeypatch: pytest.MonkeyPatch, stderr: str, kind: type[Exception], words: str) -> None:
    def fails(command: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        assert command[:4] == [sys.executable, "-m", "pip", "download"]
        return subprocess.CompletedProcess(command, 1, "", stderr)

    monkeypatch.setattr(subprocess, "run", fails)
    with pytest.raises(kind, match=words):
        wheels.fetch(BOARD, "1.31.1", None)
