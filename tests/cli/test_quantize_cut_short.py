"""``harness quantize`` that is interrupted, meets a recipe that fails or a disk that is full."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.cli.conftest import Command
from tests.conftest import DIGITS
from tests.models import make_model

pytestmark = pytest.mark.slow  # processes that import everything

OUT = Path("out")
# Ctrl-C must reach it even where the tests themselves were started in the background, with SIGINT ignored.
COMMAND = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from harness.cli import main; main()"
LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)); "


def spawn(*words: str, before: str = "") -> subprocess.Popen[str]:
    """Start the command as a terminal does: in a process group of its own, which Ctrl-C strikes as a whole."""
    return subprocess.Popen(
        [sys.executable, "-c", before + COMMAND, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """The processes of a test; whatever is left of them is ended."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def scratch() -> list[Path]:
    return list(OUT.glob(".*")) if OUT.exists() else []


MOMENTS: dict[str, Callable[[], bool]] = {
    "the folder is there": OUT.exists,
    "the first file is written": lambda: any(path.is_file() for folder in scratch() for path in folder.rglob("*")),
    "the first variant is made": lambda: bool(list(OUT.glob("*.onnx"))),
    "half of the variants are made": lambda: len(list(OUT.glob("*.onnx"))) > 5,
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_leaves_whole_files_only(moment: str, started: list[subprocess.Popen[str]]) -> None:
    process = spawn("quantize", str(DIGITS), "-o", str(OUT))
    started.append(process)
    deadline = time.monotonic() + 120
    while not MOMENTS[moment]():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "interrupted" in err
    assert "Traceback" not in err
    assert [path.name for path in OUT.iterdir() if path.suffix != ".onnx"] == []
    for path in OUT.glob("*.onnx"):
        onnx.checker.check_model(onnx.load(path))
    kept = Path(os.environ["QUANT_HARNESS_HOME"])
    # What is kept is called by its key; what is not whole yet is not.
    names = [path.name for path in kept.rglob("*") if path.is_file()]
    assert [name for name in names if not re.fullmatch(r"[0-9a-f]{64}\.\w+", name)] == []


def test_what_fails_is_a_row_and_the_others_are_made(harness: Command) -> None:
    """An operator that only its owner knows: the model can't be run here, so it can't be calibrated; its weights can be quantized."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], "matmul"),
        helper.make_node("Mystery", ["m"], ["y"], "mystery", domain="org.example"),
    ]
    proto = make_model(nodes, {"x": [1, 4]}, {"y": [1, 4]}, {"w": np.eye(4, dtype=np.float32)})
    proto.opset_import.append(helper.make_opsetid("org.example", 1))
    onnx.save(proto, "m.onnx")
    done = harness("quantize", "m.onnx", "-o", str(OUT), "--json")
    assert done.code == 3
    rows = {row["recipe"]["name"]: row for row in done.json["variants"]}
    failed = {name for name, row in rows.items() if row["state"] == "failed"}
    assert {"static-QDQ-U8S8", "static-QOperator-U8S8"} <= failed
    assert "org.example:Mystery" in rows["static-QDQ-U8S8"]["reason"]
    assert "\n" not in rows["static-QDQ-U8S8"]["reason"]
    assert rows["dynamic-S8"]["state"] == "made"
    assert {path.stem for path in OUT.iterdir()} == {name for name, row in rows.items() if row["state"] == "made"}


def test_files_that_may_not_grow_are_the_disks_fault(started: list[subprocess.Popen[str]]) -> None:
    process = spawn("quantize", str(DIGITS), "-o", str(OUT), "--json", before=LIMITED)
    started.append(process)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2, (out, err)
    assert f"{OUT}: variants can't be written here: File too large; make room or give another folder" in err
    assert json.loads(out)["exit"] == 2
    assert list(OUT.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="a disk of its own takes root")
@pytest.mark.parametrize("kilobytes", [300, 5000])
def test_a_full_disk_is_named(kilobytes: int, tmp_path: Path) -> None:
    """A disk with room for nothing, and one with room for some of the variants."""
    folder = tmp_path / "disk"
    folder.mkdir()
    script = 'mount -t tmpfs -o size="$1"k tmpfs "$2" && shift 2 && exec "$@"'
    command = [sys.executable, "-c", COMMAND, "quantize", str(DIGITS), "-o", str(folder / "out"), "--json"]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(kilobytes), str(folder), *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip("this machine lets nobody mount a disk")
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert f"{folder / 'out'}: variants can't be written here: No space left on device; make room" in done.stderr
