"""Boards that are broken or mean harm: what they say is refused or shown harmless."""

from __future__ import annotations

import csv
import json
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.devices.link import Link
from harness.errors import DeviceError, Exit
from harness.measure import journal
from harness.measure.launch import Launch
from harness.measure.route_events import DeviceFailed
from tests.cli.conftest import Command
from tests.devices.hostile import NASTY, OBEYED, Twist, opened, say, saying
from tests.devices.test_agent import run as agent
from tests.devices.test_agent import store

WRONG = {
    "garbage": (b"\x00\xff\x1b[2J garbage\n", "the agent sent a message that does not follow the protocol: b'\\x00\\xff\\x1b[2J"),
    "an array": (b"[1, 2]\n", "the agent sent a message that does not follow the protocol"),
    "NaN": (b'{"event": "round", "round": 0, "elapsed": NaN}\n', "the agent sent a message that does not follow the protocol"),
    "Infinity": (b'{"event": "round", "round": 0, "elapsed": -Infinity}\n', "does not follow the protocol"),
    "a number too large for floats": (
        b'{"event": "round", "round": 0, "elapsed": 1e999}\n',
        "round.elapsed: Input should be a finite",
    ),
    "a number of 5000 digits": (b'{"event": "round", "round": ' + b"9" * 5000 + b"}\n", "does not follow the protocol"),
    "depth": (b'{"event": "round", "x": ' + b"[" * 200_000 + b"\n", "does not follow the protocol"),
    "half a character": (b'{"event": "error", "message": "\\ud800 \\u001b[2J"}\n', "\ufffd \ufffd[2J"),
    "a case that was not asked for": (
        say(event="failed", case="c9", kind="x", message=""),
        "a case that the job does not have: 'c9'",
    ),
    "an event of the controller's": (say(event="collected", job="other"), "not an event of a job: {'event': 'collected'"),
    "another job": (say(event="started", job="../../x"), "not an event of a job"),
    "figures that are ours to find": (say(event="fidelity", case="c0", accuracy=1.0), "not an event of a job"),
    "an event that there is not": (say(event="\x1b[2J"), "not an event of a job: {'event': '\ufffd[2J'}"),
    "a message that is too long": (
        say(event="failed", case="c0", kind="x", message="x" * 5000),
        "failed.message: String should have at most",
    ),
    "an end before its time": (say(event="ended"), "measure: the journal is incomplete"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_of_the_protocol_fails_the_device_and_says_where(
    harness: Command, study: Path, twisted: Callable[[Twist], None], name: str
) -> None:
    line, words = WRONG[name]
    twisted(saying(line))
    done = harness("run", str(study), "--variant", "fp32", "--rounds", "1", "--json")
    assert done.code == 3
    (device,) = done.json["devices"]
    assert device["trouble"].startswith("measure: ")
    assert words in f"{device['trouble']}"
    assert not OBEYED.search(done.err + done.out)


def nasty(_command: str, line: bytes) -> Iterator[bytes]:
    """Put hostile words wherever the protocol has room for words."""
    said = json.loads(line) if line.strip() else {}
    if said.get("event") in {"facts", "begin"}:
        facts = said.get("facts", said)
        facts |= {
            "cpu_model": NASTY,
            "board": NASTY,
            "kernel": NASTY,
            "features": [NASTY],
            "libc": NASTY,
            "governor": NASTY[:90],
        }
    elif said.get("event") == "evaluated":
        for each in said["graph"]["ops"]:
            each["op"] = NASTY[:99]
        said["graph"]["left"] = [NASTY]
    elif said.get("event") == "end":
        yield say(event="trouble", case="c1", what=NASTY[:99], kind=NASTY[:99], message=NASTY)
        yield say(event="failed", case="c1", kind=NASTY[:99], message=NASTY)
        yield say(event="governor", governor="performance", reason=NASTY, was=[NASTY[:99]])
    elif said.get("event") == "duet":
        for pair in [pair for rebuild in said["rebuilds"] for pair in rebuild["pairs"]]:
            pair["disturbed"] = [NASTY[:99]]
    yield say(**said) if said else line


def test_hostile_words_do_nothing_anywhere(harness: Command, study: Path, twisted: Callable[[Twist], None]) -> None:
    twisted(nasty)
    done = harness("run", str(study), "--variant", "fp16", "--rounds", "2")
    assert done.code == 3, done.err
    assert "fp16: \ufffd[2J" in done.err
    words = ["latest", "--ops"]
    said = done.err + done.out + harness("show", *words).out + harness("device", "probe", "local").out + harness("devices").out
    for name in ("markdown", "csv", "html", "junit", "json", "table", "benchmark"):
        shown = harness("show", "latest", "--format", name)
        said += shown.out if shown.code == 0 else ""
    assert not OBEYED.search(said)
    (folder,) = Path("results/tiny").iterdir()
    harmless(folder)


def harmless(folder: Path) -> None:
    """Look through every file that people and their tools read."""
    texts = {
        path.name: path.read_bytes().decode()
        for path in folder.rglob("*")
        if path.suffix in {".md", ".html", ".xml", ".csv", ".json"}
    }
    assert {".md", ".html", ".xml", ".csv", ".json"} == {Path(name).suffix for name in texts}
    for name, text in texts.items():
        assert not OBEYED.search(text), name
        if name.endswith((".md", ".html", ".xml")):
            assert "<script>alert" not in text, name
        if name.endswith(".xml"):
            ET.fromstring(text)
        if name.endswith(".csv"):
            assert len({len(row) for row in csv.reader(text.splitlines(keepends=True))}) == 1
        if name.endswith(".md"):
            assert "**x**" not in text
            assert "[a](javascript" not in text


@pytest.mark.parametrize(
    ("command", "line", "words"),
    [
        ("machine", say(event="stored"), "provision: expected 'machine' from the agent, got {'event': 'stored'}"),
        ("machine", say(event="error", message=NASTY), "provision: \ufffd[2J"),
        ("machine", b"", "the agent ended without an answer: no message"),
        ("read", say(event="data", base64="not base64!"), "collect: c0.npz arrived damaged"),
        ("read", say(event="data", base64=""), "collect: c0.npz arrived damaged"),
        ("receive", say(event="missing", sha256=["0" * 64]), "push: the device requests a file that it was not offered: 000"),
        ("receive", say(event="missing", sha256={"a": NASTY}), ""),
        ("receive", say(event="stored", sha256="0" * 64), "push: expected 'missing' from the agent, got {'event': 'stored'"),
    ],
)
def test_an_agent_that_says_something_else(twisted: Callable[[Twist], None], command: str, line: bytes, words: str) -> None:
    def twist(asked: str, said: bytes) -> Iterator[bytes]:
        if asked == command and said.strip():
            while line:
                yield line
        else:
            yield said

    twisted(twist)
    path = Path("file")
    path.write_bytes(b"x")
    act: dict[str, Callable[[Link], object]] = {
        "machine": Link.machine,
        "read": lambda board: next(board.read_outputs("job1", ["c0.npz"])),
        "receive": lambda board: board.push({"1" * 64: path}),
    }
    if command == "read":
        agent("receive", data=b"")
        (store() / "jobs" / "job1" / "outputs").mkdir(parents=True)
        (store() / "jobs" / "job1" / "outputs" / "c0.npz").write_bytes(b"x")
    board = opened()
    try:
        if not words:
            assert act[command](board) == 0, "nothing is missing then; the job will say so"
            return
        with pytest.raises(DeviceError) as caught:
            act[command](board)
    finally:
        board.close()
    assert words in str(caught.value)
    assert not OBEYED.search(str(caught.value))


def test_a_run_keeps_what_came_before_the_lie(harness: Command, study: Path, twisted: Callable[[Twist], None]) -> None:
    twisted(saying(b"lies\n", ahead="round"))
    done = harness("run", str(study), "--variant", "fp16", "--rounds", "5")
    assert done.code == Exit.INCOMPLETE
    (folder,) = Path("results/tiny").iterdir()
    said = list(journal.read(folder / "journal.jsonl"))
    assert len([event for event in said if isinstance(event, Launch)]) == 1
    assert isinstance(said[-1], DeviceFailed)
    # Its job was stopped, for nobody listens to it any more.
    assert subprocess.run(["pgrep", "-f", str(store())], check=False, capture_output=True).stdout == b""
