"""Whatever a transport raises at whatever call is one device's failure: all others are shown and measured, and the exit code says incomplete."""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.devices import registry
from harness.devices.blame import blamed
from harness.devices.probe import probe
from harness.devices.transport_registry import TRANSPORTS
from harness.devices.transports import connect
from harness.errors import ConnectError, DeviceError, EntryError, ResultsError, StudyError, UnforeseenError
from tests.cli.conftest import Command
from tests.devices.faulty import CALLS, HERE, KINDS, FaultyTransport

TABLE = '[faulty]\nhost = "faulty.lab"\n'
# What is called while a device is asked what it is; closing comes after all was said.
FAILING = tuple(call for call in CALLS if not call.startswith("close"))
# Those that need no process, and so no time, are tried with every kind in 'make test'; the others with a few.
QUICK = ("connect", "open")
FEW = ("KeyError", "OSError", "StopIteration", "SystemExit", "a panic", "a text that the terminal would obey")
GRID = [
    pytest.param(call, kind, marks=[] if call in QUICK or kind in FEW else pytest.mark.faults)
    for call in FAILING
    for kind in KINDS
]
STEPS = {"connect": "connect", "open": "probe", "write": "probe", "end": "probe", "lines": "probe"}


@pytest.fixture(autouse=True)
def _quiet_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No thread may die of an exception that nobody caught: it would print a traceback."""
    died: list[object] = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    yield
    assert died == []


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> type[FaultyTransport]:
    """Beside this machine, a device that fails as a test says."""
    monkeypatch.setitem(TRANSPORTS, "ssh", HERE)
    Path("devices.toml").write_text(TABLE)
    # Entries are looked at before a run, and this one has no server.
    home = Path("~/.ssh").expanduser()
    home.mkdir()
    return FaultyTransport


def named(kind: str) -> str:
    """The class that a message must name; a generator turns a StopIteration into something else."""
    return {"a panic": "Panic", "a text that can't be had": "Mute"}.get(kind, "" if " " in kind else kind.rpartition(".")[2])


@pytest.mark.parametrize(("call", "kind"), GRID)
def test_a_device_that_is_asked(faulty: type[FaultyTransport], call: str, kind: str) -> None:
    known = registry.load()
    faulty.fail(call, kind)
    answer = probe(known.get("faulty"))
    assert isinstance(answer.error, DeviceError)
    assert answer.error.step == STEPS[call]
    assert answer.state == "failed"
    if (call, kind) != ("lines", "StopIteration"):
        assert named(kind) in answer.error.reason
    assert len(str(answer.error)) < 2000
    assert str(answer.error).replace("\n", "").isprintable()


@pytest.mark.parametrize("call", ["close channel", "close"])
@pytest.mark.parametrize("kind", FEW)
def test_what_was_said_stands_when_closing_fails(faulty: type[FaultyTransport], call: str, kind: str) -> None:
    known = registry.load()
    faulty.fail(call, kind)
    answer = probe(known.get("faulty"))
    assert answer.error is None
    assert answer.state == "reachable"
    assert call in faulty.made


@pytest.mark.parametrize(("call", "kind"), [("connect", "a panic"), ("lines", "a text that the terminal would obey")])
def test_the_list_shows_all_devices(harness: Command, faulty: type[FaultyTransport], call: str, kind: str) -> None:
    faulty.fail(call, kind)
    done = harness("devices")
    states = dict(line.split()[:2] for line in done.out.splitlines() if line.split()[:1] in (["local"], ["faulty"]))
    assert (done.code, states) == (3, {"local": "reachable", "faulty": "failed"})
    assert done.err.startswith(f"harness: faulty: {STEPS[call]}: an unexpected error: ")
    assert "Traceback" not in done.err
    as_json = harness("devices", "--json").json["devices"]
    assert [device["state"] for device in as_json] == ["reachable", "failed"]


def test_ctrl_c_ends_all(faulty: type[FaultyTransport], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "Ctrl-C", KeyboardInterrupt)
    known = registry.load()
    for call in ("open", "lines"):
        faulty.fail(call, "Ctrl-C")
        with pytest.raises(KeyboardInterrupt):
            probe(known.get("faulty"))


def test_errors_of_ours_pass_as_they_are() -> None:
    for error in (ConnectError("b", "connect", "off"), ResultsError("disk full"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, blamed("b", "push"):
            raise error
        assert caught.value is error
    with pytest.raises(EntryError, match="b: push: study"), blamed("b", "push"):
        raise StudyError("study")  # noqa: EM101
    with pytest.raises(UnforeseenError, match=r"b: push: an unexpected error: zlib\.error: x"), blamed("b", "push"):
        raise zlib.error("x")  # noqa: EM101


def measured(harness: Command, study: Path) -> tuple[int, dict[str, dict[str, object]], str]:
    """Measure a tiny model on this machine and on the faulty device; gives the code, what became of the devices, and standard error."""
    words = ["run", str(study), "--variant", "fp32", "--rounds", "1", "--device", "local", "--device", "faulty", "--json"]
    done = harness(*words)
    return done.code, {device["device"]: device for device in done.json["devices"]}, done.err


def assert_only_faulty_failed(code: int, devices: dict[str, dict[str, object]], said: str) -> None:
    assert code == 3, said
    assert devices["local"]["state"] == "measured"
    assert devices["faulty"]["state"] == "failed"
    assert "Traceback" not in said
    (run,) = Path("results").glob("*/*/run.json")
    rows = json.loads(run.read_text())
    assert [result["state"] for result in rows["results"] if result["device"] == "local"] == ["measured"]
    assert (run.parent / "report" / "index.html").is_file()


@pytest.mark.faults
@pytest.mark.parametrize(
    ("command", "call", "kind", "step"),
    [
        ("receive", "open", "ValueError", "push"),
        ("receive", "write", "UnsupportedAlgorithm", "push"),
        ("start", "end", "a panic", "start"),
        ("start", "lines", "KeyError", "start"),
        ("follow", "open", "SSHException", "measure"),
        ("follow", "lines", "MemoryError", "measure"),
        ("follow", "lines", "a text that the terminal would obey", "measure"),
        ("read", "open", "OSError", "collect"),
        ("read", "lines", "SystemExit", "collect"),
    ],
)
def test_a_device_that_is_measured(
    harness: Command, study: Path, faulty: type[FaultyTransport], command: str, call: str, kind: str, step: str
) -> None:
    faulty.fail(call, kind, command)
    code, devices, said = measured(harness, study)
    assert_only_faulty_failed(code, devices, said)
    trouble = str(devices["faulty"]["trouble"])
    assert trouble.startswith(f"{step}: an unexpected error: ")
    assert named(kind) in trouble
    log = Path(trouble.rpartition("; please report it with ")[2])
    assert "Traceback" in log.read_text()


@pytest.mark.faults
def test_what_was_measured_stands_when_closing_fails(harness: Command, study: Path, faulty: type[FaultyTransport]) -> None:
    faulty.fail("close", "a panic")
    code, devices, said = measured(harness, study)
    assert [device["state"] for device in devices.values()] == ["measured", "measured"]
    assert code in {0, 4}, said


@pytest.mark.faults
def test_a_gate_judges_the_others(harness: Command, study: Path, faulty: type[FaultyTransport]) -> None:
    faulty.fail("lines", "InvalidKey", "follow")
    words = ["check", str(study), "--baseline", str(study / "model.onnx"), "--variant", "fp32", "--max-time", "10m", "--json"]
    done = harness(*words, "--device", "local", "--device", "faulty")
    devices = {device["device"]: device["state"] for device in done.json["devices"]}
    assert (done.code, devices) == (3, {"local": "measured", "faulty": "failed"}), done.err
    assert "Traceback" not in done.err


def test_lines_are_gone_on_with_where_they_were(faulty: type[FaultyTransport]) -> None:
    faulty.fail("none", "OSError")
    way = connect.connect(registry.load().get("local"))
    channel = way.open(["sh", "-c", "echo a; echo b; echo c"], "probe")
    assert next(iter(channel.lines())) == b"a\n"
    assert list(channel.lines()) == [b"b\n", b"c\n"]
    channel.end()
    assert channel.close() == ""
    assert channel.status == 0
    way.close()
