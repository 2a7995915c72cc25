"""Signals at the worst moments: a run ends with 130, leaves no job behind, and can be gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Command

pytestmark = pytest.mark.faults  # many processes that import everything

# A signal to itself where this says; each reaches it also where the tests were started in the background or under nohup.
STRIKE = """\
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
strike = lambda: os.kill(os.getpid(), signal.{number})
{moment}
from harness.cli import main
main()
"""
WRITING = "import harness.report.formats as formats; formats.files = lambda *_: strike()"
MAKING_CASES = "import harness.measure.plan as plan; plan.cases = lambda *_: strike()"
SUBMITTING = """\
import harness.measure.campaign as campaign

class Pool(campaign.ThreadPoolExecutor):
    def submit(self, *words):
        future = super().submit(*words)
        if self._thread_name_prefix == "device":
            strike()
        return future
campaign.ThreadPoolExecutor = Pool
"""


AT_THE_END_OF_QUIET = """\
import harness.quantize.verify.readback as readback
from harness.quantize.quiet import quiet

held = quiet()
readback.refused = lambda _: (held.__enter__(), strike())
"""


def struck(moment: str, *words: str, number: str = "SIGTERM") -> tuple[int, str]:
    code = STRIKE.format(number=number, moment=moment)
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 130), ("SIGKILL", -signal.SIGKILL)])
def test_a_run_that_was_ended_while_it_was_written_is_written_by_resume(
    harness: Command, study: Path, number: str, code: int
) -> None:
    ended, said = struck(WRITING, "run", str(study), "--variant", "fp32", "--rounds", "2", number=number)
    assert ended == code, said
    (made,) = Path("results/tiny").iterdir()
    assert json.loads((made / "run.json").read_text())["state"] == "running"
    done = harness("run", "--resume", "latest", "--json")
    assert done.code == 0, done.err
    assert json.loads((made / "run.json").read_text())["state"] == "complete"
    assert (made / "table.md").is_file()
    assert harness("baseline", "save", "latest", "kept").code == 0


def test_a_signal_while_devices_are_begun_stops_them(study: Path) -> None:
    ended, said = struck(SUBMITTING, "run", str(study), "--variant", "fp32", "--rounds", "5000")
    assert ended == 130, said
    (made,) = Path("results/tiny").iterdir()
    assert json.loads((made / "run.json").read_text())["state"] == "interrupted"
    assert '"event":"round"' not in (made / "journal.jsonl").read_text()
    for job in (Path(os.environ["QUANT_HARNESS_HOME"]) / "jobs").glob("*"):
        assert (job / "rc").read_text() == "0"


def test_a_signal_while_a_librarys_words_are_dropped_is_told_of(study: Path) -> None:
    ended, said = struck(AT_THE_END_OF_QUIET, "quantize", str(study), "--variant", "fp32", "-o", "out")
    assert (ended, said.splitlines()[-1:]) == (130, ["harness: interrupted"]), said


def test_a_signal_before_a_run_has_a_name_leaves_no_folder(study: Path) -> None:
    ended, said = struck(MAKING_CASES, "run", str(study), "--variant", "fp32", "--rounds", "2")
    assert ended == 130, said
    assert list(Path("results/tiny").iterdir()) == []


# What Python and C++ make of an exception in a class's body, in a module's beginning and in a callback.
WRAPPED = {
    "named": "class Name:\n    def __set_name__(self, *_): strike()\ndef wrapped(): type('Other', (), {'name': Name()})",
    "imported": "def wrapped():\n    try: strike()\n    except KeyboardInterrupt as exc: raise ImportError('initialization failed') from exc",
    "forgotten": "def wrapped():\n    try: strike()\n    except BaseException: pass\n    raise SystemError('a result with an exception set') from None",
    "ended": "def wrapped():\n    try: strike()\n    except BaseException: raise SystemExit(1) from None",
}


@pytest.mark.parametrize("kind", WRAPPED)
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_that_a_library_turns_into_another_exception_is_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, number: str
) -> None:
    monkeypatch.setenv("QUANT_HARNESS_HOME", str(tmp_path))
    moment = f"{WRAPPED[kind]}\nimport harness.cli.app as app\napp.run = wrapped"
    ended, said = struck(moment, "board", "list", "--json", number=number)
    assert (ended, said) == (130, "harness: interrupted\n")
    assert not (tmp_path / "crashes").exists()


def test_ctrl_c_before_anything_is_imported_ends_without_a_traceback() -> None:
    finder = "import sys\nclass Finder:\n    def find_spec(self, name, *_):\n        if name == 'harness.cli.signals': strike()\nsys.meta_path.insert(0, Finder())"
    assert struck(finder, "board", "list", number="SIGINT") == (130, "")


# A finalizer stands for every callback whose exceptions Python drops: "Exception ignored in …".
SWALLOWED = {
    "callback": "class Last:\n    def __del__(self): strike()\ndef swallow(): Last()",
    "except": "def swallow():\n    try: strike()\n    except BaseException: pass",
}


@pytest.mark.parametrize("kind", SWALLOWED)
def test_a_signal_that_a_library_swallows_is_told_of(kind: str) -> None:
    moment = f"{SWALLOWED[kind]}\nimport harness.cli.app as app\napp.run = lambda: (swallow(), 0)[1]"
    assert struck(moment, "board", "list") == (130, "harness: interrupted\n")


def test_a_signal_that_is_lost_in_a_callback_interrupts_what_the_command_waits_for() -> None:
    waiting = "import time\nimport harness.cli.app as app\napp.run = lambda: (swallow(), time.sleep(3600))"
    assert struck(f"{SWALLOWED['callback']}\n{waiting}", "board", "list") == (130, "harness: interrupted\n")


def test_nothing_begins_on_a_device_after_a_signal_that_was_swallowed(study: Path) -> None:
    moment = f"{SWALLOWED['except']}\nimport harness.measure.plan as plan\nold = plan.cases\nplan.cases = lambda *all: (swallow(), old(*all))[1]"
    ended, said = struck(moment, "run", str(study), "--variant", "fp32", "--rounds", "5000")
    assert ended == 130, said
    (made,) = Path("results/tiny").iterdir()
    assert json.loads((made / "run.json").read_text())["state"] == "interrupted"
    assert not (made / "journal.jsonl").read_text()
