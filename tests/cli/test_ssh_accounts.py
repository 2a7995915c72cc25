"""Two accounts on one board, each behind a real server with a store of its own: the lease is the machine's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.measure import journal
from harness.measure.events import Begin, Round
from harness.measure.route_events import Pushed, Waiting
from harness.records.folder import JOURNAL, find_run
from tests.cli.test_run import wait_for
from tests.sshd import ACCOUNT, OTHER, SshServer

if TYPE_CHECKING:
    from tests.cli.conftest import Command

pytestmark = [pytest.mark.ssh, pytest.mark.slow, pytest.mark.faults, pytest.mark.usefixtures("servers")]


@pytest.fixture
def servers() -> Iterator[None]:
    """A board with two accounts: ``mine`` and ``theirs`` in devices.toml."""
    if reason := SshServer.lacking(ACCOUNT) or SshServer.lacking(OTHER):
        pytest.skip(reason)
    with SshServer(ACCOUNT) as mine, SshServer(OTHER) as theirs:
        theirs.lease = mine.lease
        theirs.restart()
        Path("devices.toml").write_text(mine.entry("mine") + theirs.entry("theirs"))
        yield


def longer(study: Path, rounds: int = 6) -> None:
    """Have a job measured for some seconds."""
    path = study / "study.toml"
    path.write_text(path.read_text().replace("rounds = 3", f"rounds = {rounds}").replace("block = 0.004", "block = 0.02"))


def begin(study: Path, device: str, *words: str, results: str | None = None) -> subprocess.Popen[str]:
    """Start ``harness run`` as somebody else would: with results of its own."""
    command = [
        "run",
        str(study),
        "--variant",
        "fp16",
        "--device",
        device,
        "--results",
        results or f"results-{device}",
        "--json",
        *words,
    ]
    code = "from harness.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    )


def run_of(device: str) -> Path:
    (found,) = Path(f"results-{device}").glob("*/*")
    return found


def times(device: str) -> tuple[float, float]:
    """From when to when a run measured, by the board's clock."""
    events = list(journal.read(run_of(device) / JOURNAL))
    (start,) = [event.time for event in events if isinstance(event, Begin)]
    return start, start + max(event.elapsed for event in events if isinstance(event, Round))


def test_of_two_runs_at_the_same_moment_one_is_refused_and_told_who(study: Path) -> None:
    longer(study, 10)
    processes = {name: begin(study, name) for name in ("mine", "theirs")}
    said = {name: (process.communicate(timeout=120), process.returncode) for name, process in processes.items()}
    assert sorted(code for _, code in said.values()) == [0, 75], said
    winner, loser = sorted(said, key=lambda name: said[name][1])
    (device,) = json.loads(said[loser][0][0])["devices"]
    account = {"mine": ACCOUNT, "theirs": OTHER}[winner]
    assert f"process {processes[winner].pid}, since" in device["trouble"]
    assert f"account {account} on the device" in device["trouble"]


def test_of_two_runs_that_wait_one_measures_after_the_other(study: Path) -> None:
    longer(study)
    processes = [begin(study, name, "--wait", "5m") for name in ("mine", "theirs")]
    said = [(process.communicate(timeout=200), process.returncode) for process in processes]
    assert [code for _, code in said] == [0, 0], said
    first, second = sorted(map(times, ("mine", "theirs")))
    assert first[1] <= second[0] + 0.1


def test_nothing_is_pushed_while_another_account_measures(harness: Command, study: Path) -> None:
    longer(study, 100_000)
    process = begin(study, "theirs", results="results")
    try:
        wait_for('"event":"round"')
        answers = {each["device"]: each for each in harness("devices", "--json").json["devices"]}
        assert answers["mine"]["state"] == answers["theirs"]["state"] == "busy"
        assert f"account {OTHER} on the device" in answers["mine"]["busy"]
        assert harness("run", str(study), "--variant", "fp32", "--device", "mine", "--wait", "3").code == 75
        events = list(journal.read(find_run("latest", Path("results"), refused=True) / JOURNAL))
        assert any(isinstance(event, Waiting) for event in events)
        assert not any(isinstance(event, Pushed) for event in events)
        refused = harness("device", "release", "mine")
        assert refused.code == 75
        assert f"account {OTHER} on the device" in refused.err
        assert "the account that logs in for [mine] may not end it" in refused.err
        assert process.poll() is None
        assert harness("device", "release", "theirs").out == "theirs: the job was ended\n"
        process.communicate(timeout=60)
        assert process.returncode == 3
        assert harness("device", "release", "mine").out == "mine: no job was running\n"
    finally:
        process.kill()
        process.communicate()


def test_two_entries_for_one_machine_in_one_run_are_measured_one_after_the_other(harness: Command, study: Path) -> None:
    longer(study, 4)
    done = harness("run", str(study), "--variant", "fp16", "--device", "mine", "--device", "theirs", "--json")
    assert done.code == 0, done.err
    events = list(journal.read(find_run("latest", Path("results")) / JOURNAL))
    spans = []
    for device in ("mine", "theirs"):
        (start,) = [event.time for event in events if isinstance(event, Begin) and event.device == device]
        spans.append(
            (start, start + max(event.elapsed for event in events if isinstance(event, Round) and event.device == device))
        )
    first, second = sorted(spans)
    assert first[1] <= second[0] + 0.1
