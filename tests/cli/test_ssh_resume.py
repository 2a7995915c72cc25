"""Links that break in the middle of a run, controllers that are killed, boards that restart: every block once in the end."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.devices import registry
from harness.errors import Exit
from harness.measure import journal
from harness.measure.events import Evaluated, Event, FidelityLine
from harness.measure.launch import Launch
from harness.measure.route_events import Collected, DeviceFailed, Lost
from harness.study import study as studies
from harness.workflow import preflight
from harness.workflow.run import run_study
from tests.cli.test_run import spawn, wait_for
from tests.proxy import Fault, Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.cli.conftest import Command
    from tests.sshd import SshServer

pytestmark = [pytest.mark.ssh, pytest.mark.slow, pytest.mark.faults]
FAULTS: tuple[Fault, ...] = ("fin", "rst", "freeze")


class Striker:
    """Calls something at the first event of a kind."""

    def __init__(self, kind: str, strike: Callable[[], None], device: str = "board") -> None:
        self.kind, self.strike, self.device, self.struck = kind, strike, device, False

    def variant(self, *_: object) -> None: ...

    def plan(self, *_: object) -> None: ...

    def event(self, event: Event) -> None:
        if event.event == self.kind and event.device == self.device and not self.struck:
            self.struck = True
            self.strike()


def run(study: Path, watcher: Striker, rounds: int = 3, devices: Sequence[str] = ("board",)) -> tuple[Path, Exit]:
    """Measure a study in this process, watched."""
    asked = studies.load(study)
    asked = asked.model_copy(update={"measure": asked.measure.model_copy(update={"rounds": rounds})})
    known = registry.load()
    folder, judgement = run_study(
        preflight.check_inputs(asked, ["fp16"]), [known.get(name) for name in devices], Path("results"), watcher
    )
    return folder, judgement.exit


def events(folder: Path) -> list[Event]:
    return list(journal.read(folder / "journal.jsonl"))


def theirs(sshd: SshServer) -> list[dict[str, Any]]:
    """All lines of the journals on the board."""
    paths = sorted(sshd.store.glob("jobs/*/journal.jsonl"), key=lambda path: path.stat().st_mtime)
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def blocks(lines: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Every block: which cases, which round, and its samples as they were written."""
    return [
        (tuple(line["cases"]), line["round"], [pair["samples"] for rebuild in line["rebuilds"] for pair in rebuild["pairs"]])
        for line in lines
        if line["event"] == "duet"
    ]


def check_whole(folder: Path, sshd: SshServer, rounds: int) -> None:
    """Each block is here once, its samples equal to the board's, and all outputs were compared."""
    ours = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    assert blocks(ours) == blocks(theirs(sshd))
    found = [(cases, number) for cases, number, _ in blocks(ours)]
    assert len(set(found)) == len(found) == rounds
    said = events(folder)
    computed = {event.case for event in said if isinstance(event, Evaluated)}
    assert {event.case for event in said if isinstance(event, FidelityLine)} == computed == {"c0", "c1"}
    assert isinstance(said[-1], Collected)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    ("kind", "step"), [("connected", "push"), ("pushed", "start"), ("evaluated", "measure"), ("end", "collect")]
)
def test_a_link_that_breaks_is_made_again_and_nothing_is_lost(
    study: Path, sshd: SshServer, fault: Fault, kind: str, step: str
) -> None:
    with Proxy(sshd.port) as proxy:
        Path("devices.toml").write_text(sshd.entry("board", port=proxy.port, silence_time=3))
        begun = time.monotonic()
        watcher = Striker(kind, lambda: proxy.strike(fault))
        folder, exit_code = run(study, watcher)
        assert watcher.struck
        assert time.monotonic() - begun < 240
    assert exit_code == Exit.PASSED
    check_whole(folder, sshd, 3)
    # The end of the job may have come through, and the word that its journal ends there not.
    expected = {"collect", "measure"} if kind == "end" else {step}
    assert {event.step for event in events(folder) if isinstance(event, Lost)} <= expected
    assert len([event for event in events(folder) if isinstance(event, Lost)]) == 1


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("step", "share"), [("connect", 0.1), ("authenticate", 0.9)])
def test_a_link_that_breaks_at_the_start_is_a_failed_device_and_the_others_go_on(
    study: Path, sshd: SshServer, fault: Fault, step: str, share: float
) -> None:
    from harness.devices.link import Link

    with Proxy(sshd.port) as proxy:
        Path("devices.toml").write_text(sshd.entry("board", port=proxy.port, connect_time=2) + sshd.entry("other"))
        Link(registry.load().get("board")).close()
        whole = proxy.carried
        proxy.plan(fault, at=int(share * whole), times=100)
        begun = time.monotonic()
        folder, exit_code = run(study, Striker("none", lambda: None), devices=("board", "other"))
        assert time.monotonic() - begun < 240, step
    assert exit_code == Exit.INCOMPLETE
    (failed,) = [event for event in events(folder) if isinstance(event, DeviceFailed)]
    assert (failed.device, failed.step) == ("board", "connect")
    assert "127.0.0.1" in failed.reason
    assert {event.device for event in events(folder) if isinstance(event, Launch)} == {"other"}


def test_a_board_that_stays_away_fails_with_what_it_measured_and_resume_fetches_the_rest(
    harness: Command, study: Path, sshd: SshServer
) -> None:
    with Proxy(sshd.port) as proxy:
        Path("devices.toml").write_text(sshd.entry("board", port=proxy.port, reconnect_time=1, connect_time=1))

        def away() -> None:
            proxy.plan("fin", 0, times=10_000)
            proxy.strike("rst")

        folder, exit_code = run(study, Striker("round", away), rounds=8, devices=("board",))
    assert exit_code == Exit.INCOMPLETE
    (failed,) = [event for event in events(folder) if isinstance(event, DeviceFailed)]
    assert failed.step == "measure"
    assert "reconnecting failed within 1 s" in failed.reason
    assert f"to fetch its results: harness run --resume {folder.name}" in failed.reason
    assert 0 < len([event for event in events(folder) if isinstance(event, Launch)]) < 8
    Path("devices.toml").write_text(sshd.entry("board"))
    done = harness("run", "--resume", "latest", "--json")
    assert done.code == 0, done.err
    check_whole(folder, sshd, 8)
    assert harness("run", "--resume", "latest", "--json").json == done.json, "nothing is left to do"


def test_kill_9_of_the_controller_and_resume(harness: Command, study: Path, sshd: SshServer) -> None:
    Path("devices.toml").write_text(sshd.entry("board"))
    process = spawn("run", str(study), "--device", "board", "--variant", "fp16", "--rounds", "8")
    folder = wait_for('"event":"round"')
    process.kill()
    process.communicate()
    # As a crash in the middle of a line leaves it.
    with (folder / "journal.jsonl").open("a") as file:
        file.write('{"device":"board","offset":99,"event":"du')
    done = harness("run", "--resume", folder.name, "--json")
    assert done.code == 0, done.err
    check_whole(folder, sshd, 8)
    assert done.json["devices"][0]["state"] == "measured"
    assert len(list((sshd.store / "jobs").iterdir())) == 1, "no second job was started"


def test_a_board_that_restarts_goes_on_with_the_rounds_that_are_left(harness: Command, study: Path, sshd: SshServer) -> None:
    Path("devices.toml").write_text(sshd.entry("board"))
    process = spawn("run", str(study), "--device", "board", "--variant", "fp16", "--rounds", "8")
    folder = wait_for('"event":"round"')
    process.kill()
    process.communicate()
    (job,) = (sshd.store / "jobs").iterdir()
    # Power is lost: the job and its worker are gone, what they wrote is there.
    os.killpg(int((job / "pid").read_text()), signal.SIGKILL)
    begun = len(blocks(theirs(sshd)))
    assert begun < 8
    done = harness("run", "--resume", "latest", "--json")
    assert done.code == 0, done.err
    check_whole(folder, sshd, 8)
    assert len(list((sshd.store / "jobs").iterdir())) == 2


def test_ctrl_c_then_resume(harness: Command, study: Path, sshd: SshServer) -> None:
    Path("devices.toml").write_text(sshd.entry("board"))
    process = spawn("run", str(study), "--device", "board", "--variant", "fp16", "--rounds", "8")
    folder = wait_for('"event":"round"')
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert harness("run", "--resume", "latest", "--json").code == 0
    check_whole(folder, sshd, 8)


def test_two_controllers_do_not_write_one_run(harness: Command, study: Path, sshd: SshServer) -> None:
    Path("devices.toml").write_text(sshd.entry("board"))
    process = spawn("run", str(study), "--device", "board", "--variant", "fp16", "--rounds", "30")
    folder = wait_for('"event":"round"')
    try:
        done = harness("run", "--resume", folder.name)
        assert done.code == 2
        assert "another process is working on this run" in done.err
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def test_resume_refuses_what_has_changed(harness: Command, study: Path, sshd: SshServer) -> None:
    Path("devices.toml").write_text(sshd.entry("board"))
    process = spawn("run", str(study), "--device", "board", "--variant", "fp16", "--rounds", "30")
    wait_for('"event":"round"')
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    refused = harness("run", str(study), "--resume", "latest", "--rounds", "3")
    assert refused.code == 2
    assert "STUDY, --rounds: can't be combined with --resume" in refused.err
    assert "it has board" in harness("run", "--resume", "latest", "--device", "nobody").err
    model = study / "model.onnx"
    model.write_bytes(model.read_bytes().replace(b"conv", b"cONV", 1) + b"")
    import numpy as np

    np.savez(study / "evaluation.npz", x=np.zeros((12, 1, 8, 8), np.float32), labels=np.zeros(12, np.int64))
    done = harness("run", "--resume", "latest")
    assert done.code == 2
    assert "start a new run" in done.err


def test_a_second_run_queues_and_says_for_whom(study: Path, sshd: SshServer) -> None:
    Path("devices.toml").write_text(sshd.entry("board"))
    first = spawn("run", str(study), "--device", "board", "--variant", "fp16", "--rounds", "25", "--results", "results/a")
    deadline = time.monotonic() + 60
    while not list(sshd.store.glob("lease")) and time.monotonic() < deadline:
        time.sleep(0.1)
    words = ["run", str(study), "--device", "board", "--variant", "fp16", "--rounds", "2", "--results", "results/b"]
    second = spawn(*words, "--wait", "2m")
    try:
        busy = spawn(*words[:-1], "results/c")
        _, refusal = busy.communicate(timeout=60)
        assert busy.returncode == 75, refusal
        assert f"process {first.pid}" in refusal
    finally:
        _, told = first.communicate(timeout=120)
        _, said = second.communicate(timeout=120)
    assert (first.returncode, second.returncode) == (0, 0), told + said
    assert "board: waiting: the device is busy with another job" in said


def test_a_run_that_waits_sends_nothing_while_another_is_measured(harness: Command, study: Path, sshd: SshServer) -> None:
    Path("devices.toml").write_text(sshd.entry("board"))
    first = spawn("run", str(study), "--device", "board", "--variant", "fp16", "--rounds", "30")
    wait_for('"event":"round"')
    before = {path.name for path in (sshd.store / "blobs" / "sha256").iterdir()}
    busy = harness("run", str(study), "--device", "board", "--variant", "dynamic-U8", "--rounds", "2", "--wait", "1s")
    assert busy.code == 75
    assert "after 1 s another job is still using the device" in busy.err
    assert {path.name for path in (sshd.store / "blobs" / "sha256").iterdir()} == before
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)


def test_a_job_that_was_released_is_a_failed_device_and_goes_on_later(harness: Command, study: Path, sshd: SshServer) -> None:
    Path("devices.toml").write_text(sshd.entry("board"))
    process = spawn("run", str(study), "--device", "board", "--variant", "fp16", "--rounds", "12")
    folder = wait_for('"event":"round"')
    assert "the job was ended" in harness("device", "release", "board").out
    _, said = process.communicate(timeout=60)
    assert process.returncode == 3, said
    assert "board: failed: measure: the job was ended on the device, as by 'harness device release'" in said
    assert f"to continue: harness run --resume {folder.name}" in said
    assert harness("run", "--resume", folder.name).code == 0
    check_whole(folder, sshd, 12)


def test_resume_goes_on_with_the_same_device_only(harness: Command, study: Path, sshd: SshServer) -> None:
    Path("devices.toml").write_text(sshd.entry("board"))
    process = spawn("run", str(study), "--device", "board", "--variant", "fp16", "--rounds", "30")
    folder = wait_for('"event":"round"')
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    Path("devices.toml").write_text(sshd.entry("board", host_key=sshd.public("other_key")))
    done = harness("run", "--resume", "latest")
    assert done.code == 2
    assert "'board' has another host key than when the run was started" in done.err
    Path("devices.toml").write_text(sshd.entry("board"))
    text = (folder / "journal.jsonl").read_text()
    (folder / "journal.jsonl").write_text(text.replace('"cores":', '"cores":9'))
    done = harness("run", "--resume", "latest")
    assert done.code == 3
    assert "board: failed: resume: this is not the machine on which the run was started: its cores is" in done.err
    (folder / "journal.jsonl").write_text(text)
    (folder / "variants" / "fp16.onnx").unlink()
    done = harness("run", "--resume", "latest")
    assert done.code == 2
    assert "fp16.onnx: the file is missing" in done.err
