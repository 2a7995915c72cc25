"""Boards whose jobs, workers, keys, login scripts or clocks go wrong in the middle of a run."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.devices import registry
from harness.devices.link import Link
from harness.errors import Exit, HostKeyError
from harness.measure import request, session
from harness.measure.events import End, Round, SeparateProcesses
from harness.measure.launch import Launch
from harness.measure.route_events import DeviceFailed
from harness.study import study as studies
from tests.account import altered
from tests.cli.struck import BOTH, Timed, board, failure, job_of, rounds
from tests.cli.test_ssh_resume import Striker, check_whole, events, run
from tests.proxy import Fault, Proxy
from tests.runners.fakes import alive, children
from tests.sshd import SshServer

if TYPE_CHECKING:
    from tests.cli.conftest import Command

pytestmark = [pytest.mark.ssh, pytest.mark.slow, pytest.mark.faults]


def test_kill_9_of_the_job_keeps_what_was_measured_and_resume_completes_it(
    harness: Command, study: Path, sshd: SshServer
) -> None:
    board(sshd)
    watcher = Timed("round", lambda: os.kill(job_of(sshd)[1], signal.SIGKILL))
    folder, exit_code = run(study, watcher, rounds=8, devices=BOTH)
    assert exit_code == Exit.INCOMPLETE
    failed = failure(folder)
    assert (failed.device, failed.step) == ("board", "measure")
    assert failed.reason.startswith(
        "the runner died: killed, or the board was restarted; what was measured is kept; to continue: harness run --resume"
    )
    assert watcher.noticed < 120
    assert 0 < len(rounds(folder, "board")) < 8
    assert rounds(folder, "local") == list(range(8))
    shown = harness("show", "latest", "--json").json
    measured = {device["device"]: [row["median_ms"] for row in device["rows"]] for device in shown["devices"]}
    assert all(measured["board"])
    done = harness("run", "--resume", "latest", "--json")
    assert done.code == 0, done.err
    assert rounds(folder, "board") == rounds(folder, "local") == list(range(8))


def test_kill_9_of_a_worker_is_a_recorded_outcome_and_the_others_go_on(study: Path, sshd: SshServer) -> None:
    board(sshd)

    def strike() -> None:
        pid = job_of(sshd)[1]
        while not (found := children(pid)):
            time.sleep(0.005)
        os.kill(found[0], signal.SIGKILL)

    folder, exit_code = run(study, Striker("round", strike), rounds=6)
    assert exit_code == Exit.PASSED, "a pair whose process died goes on in two"
    (apart,) = [event for event in events(folder) if isinstance(event, SeparateProcesses)]
    assert apart.reason == "crash: killed by SIGKILL; last words: no message"
    assert [event.reason for event in events(folder) if isinstance(event, End)] == ["rounds"]
    found = [(event.cases, event.round) for event in events(folder) if isinstance(event, Launch)]
    assert {number for _, number in found} == set(range(6))
    assert len(set(found)) == len(found)


def test_a_job_that_hangs_is_ended_by_the_controller(study: Path, sshd: SshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    # The longest time is that of the study's limits; here it is over while the job, frozen, can't see to it itself.
    monkeypatch.setattr(session, "GRACE_SECONDS", 12 - request.longest(studies.load(study).measure, 2))
    board(sshd)
    folder, exit_code = run(study, Striker("round", lambda: os.kill(job_of(sshd)[1], signal.SIGSTOP)), rounds=500)
    assert exit_code == Exit.INCOMPLETE
    assert "it did not end within 12 s, and was killed: the runner died" in failure(folder).reason
    assert len(rounds(folder, "board")) > 0
    assert not alive(job_of(sshd)[1])


def test_another_host_key_in_the_middle_ends_it(harness: Command, study: Path, sshd: SshServer) -> None:
    with SshServer() as other, Proxy(sshd.port) as proxy:
        board(sshd, port=proxy.port)

        def swap() -> None:
            proxy.target = other.port
            proxy.strike("rst")

        watcher = Timed("round", swap)
        folder, exit_code = run(study, watcher, rounds=8, devices=BOTH)
        assert exit_code == Exit.INCOMPLETE
        failed = failure(folder)
        assert (failed.device, failed.step) == ("board", "connect")
        assert "is not the one expected: it shows ssh-ed25519 SHA256:" in failed.reason
        assert f"harness run --resume {folder.name}" in failed.reason
        assert watcher.noticed < 120
        assert rounds(folder, "local") == list(range(8))
        assert not (other.store / "jobs").exists(), "nothing was asked of the other one"
        with pytest.raises(HostKeyError):
            Link(registry.load().get("board"))
        proxy.target = sshd.port
        assert harness("run", "--resume", "latest").code == 0
    assert rounds(folder, "board") == list(range(8))


@pytest.mark.parametrize("fault", ["fin", "rst", "freeze"])
def test_a_link_that_breaks_again_at_the_login_is_made_once_more(study: Path, sshd: SshServer, fault: Fault) -> None:
    with Proxy(sshd.port) as proxy:
        board(sshd, port=proxy.port, connect_time=1)
        Link(registry.load().get("board")).close()
        login = int(0.9 * proxy.carried)

        def strike() -> None:
            proxy.plan(fault, at=login, times=2)
            proxy.strike("rst")

        folder, exit_code = run(study, Striker("round", strike), rounds=4)
    assert exit_code == Exit.PASSED, [event for event in events(folder) if isinstance(event, DeviceFailed)]
    check_whole(folder, sshd, 4)


NOISE = {
    "text": "printf 'Welcome to board 7\\nlast login: never\\n'",
    "no end": r"printf '\033]0;board\007welcome'",
    "binary": "head -c 100000 /dev/urandom",
    "json": """printf '{"no": "event"}\\n[1]\\nnull\\n'""",
}


@pytest.mark.parametrize("said", NOISE)
def test_what_a_login_script_prints_is_skipped(study: Path, said: str) -> None:
    with SshServer() as noisy:
        script = noisy.folder / "login.sh"
        # What ~/.bashrc or sshrc print comes before the command's own words, in the same way.
        script.write_text(f'{NOISE[said]}\nexec sh -c "$SSH_ORIGINAL_COMMAND"\n')
        script.chmod(0o755)
        noisy.restart(f"ForceCommand sh {script}")
        board(noisy)
        folder, exit_code = run(study, Striker("none", lambda: None), rounds=2)
        assert exit_code == Exit.PASSED, [event for event in events(folder) if isinstance(event, DeviceFailed)]
        check_whole(folder, noisy, 2)


def test_a_flood_on_standard_error_and_a_clock_set_back_change_nothing(study: Path) -> None:
    with SshServer() as odd:
        # Each process floods its standard error; 3 s after its start its clock is set back by an hour.
        python = altered(
            odd.folder / "odd",
            odd.python,
            "import os, time\nnow, begun = time.time, time.monotonic()\n"
            "time.time = lambda: now() - (3600 if time.monotonic() - begun > 3 else 0)\n"
            "for _ in range(250): os.write(2, b'noise \\x1b[2J ' * 1000 + b'\\n')\n",
        )
        board(odd, python=python)
        folder, exit_code = run(study, Striker("none", lambda: None), rounds=8)
        assert exit_code == Exit.PASSED, [event for event in events(folder) if isinstance(event, DeviceFailed)]
        check_whole(folder, odd, 8)
        elapsed = [event.elapsed for event in events(folder) if isinstance(event, Round)]
        assert elapsed == sorted(elapsed)
        assert 0 < elapsed[-1] < 1000


@pytest.mark.parametrize("freeze", [False, True])
def test_release_over_ssh_ends_a_job_and_a_dead_jobs_worker(harness: Command, sshd: SshServer, study: Path, freeze: bool) -> None:
    board(sshd)
    workers: list[int] = []

    def strike() -> None:
        pid = job_of(sshd)[1]
        while not workers:
            workers.extend(children(pid)[:1])
        os.kill(workers[0], signal.SIGSTOP)
        os.kill(pid, signal.SIGSTOP if freeze else signal.SIGKILL)
        if freeze:
            assert harness("device", "release", "board").out == "board: the job was ended\n"

    folder, exit_code = run(study, Striker("round", strike), rounds=500)
    assert exit_code == Exit.INCOMPLETE
    assert "the runner died" in failure(folder).reason
    deadline = time.monotonic() + 60
    while alive(workers[0]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(workers[0])
    assert harness("device", "release", "board").out == "board: no job was running\n"
