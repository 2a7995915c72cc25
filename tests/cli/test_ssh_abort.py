"""A run that is ended while the way to the board is bad: the job on the board is stopped all the same, or the message says what was left."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.struck import board, job_of, opened
from tests.cli.test_run import spawn, wait_for
from tests.proxy import Proxy
from tests.sshd import SshServer

if TYPE_CHECKING:
    from tests.cli.conftest import Command

pytestmark = [pytest.mark.ssh, pytest.mark.slow, pytest.mark.faults]


@pytest.fixture(scope="module")
def narrow() -> Iterator[SshServer]:
    """A server that allows one channel on a connection."""
    if (reason := SshServer.lacking()) is not None:
        pytest.skip(reason)
    with SshServer() as server:
        server.restart("MaxSessions 1")
        yield server


@pytest.fixture(autouse=True)
def _empty(request: pytest.FixtureRequest) -> None:
    if "narrow" in request.fixturenames:
        request.getfixturevalue("narrow").clear()


def begun(study: Path, *more: str) -> subprocess.Popen[str]:
    process = spawn("run", str(study), "--device", "board", "--variant", "fp16", "--rounds", "5000", "--max-time", "200s", *more)
    wait_for('"event":"round"')
    return process


def ended(process: subprocess.Popen[str], number: int, within: float = 60) -> str:
    """End it by a signal; gives what it said."""
    at = time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=2 * within)
    assert process.returncode == 130, said
    assert time.monotonic() - at < within, said
    return said


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


def test_a_server_with_one_channel_is_free_right_after_an_abort(study: Path, narrow: SshServer) -> None:
    board(narrow)
    said = ended(begun(study), signal.SIGTERM)
    assert not alive(job_of(narrow)[1])
    assert "could not be stopped" not in said
    with opened() as link:
        assert link.holder() is None


def test_a_server_with_one_channel_runs_queues_and_releases(harness: Command, study: Path, narrow: SshServer) -> None:
    board(narrow)
    first = begun(study)
    pid = job_of(narrow)[1]
    queued = spawn("run", str(study), "--device", "board", "--variant", "fp16", "--rounds", "2", "--wait", "100s")
    wait_for('"event":"waiting"')
    ended(queued, signal.SIGINT)
    assert alive(pid)
    assert harness("device", "release", "board").out == "board: the job was ended\n"
    first.communicate(timeout=60)
    assert first.returncode == 3
    assert not alive(pid)


def test_a_run_on_a_server_with_one_channel_goes_on_when_its_link_breaks(study: Path, narrow: SshServer) -> None:
    with Proxy(narrow.port) as proxy:
        board(narrow, port=proxy.port)
        process = spawn("run", str(study), "--device", "board", "--variant", "fp16", "--rounds", "4")
        wait_for('"event":"round"')
        proxy.strike("rst")
        _, said = process.communicate(timeout=100)
    assert process.returncode == 0, said


def test_a_link_that_is_frozen_at_the_abort_is_replaced(study: Path, sshd: SshServer) -> None:
    with Proxy(sshd.port) as proxy:
        board(sshd, port=proxy.port)
        process = begun(study)
        proxy.strike("freeze")
        ended(process, signal.SIGINT)
    assert not alive(job_of(sshd)[1])


def test_what_could_not_be_stopped_is_told(harness: Command, study: Path, sshd: SshServer) -> None:
    with Proxy(sshd.port) as proxy, socket.socket() as closed:
        board(sshd, port=proxy.port, connect_time=2)
        process = begun(study)
        # Whoever connects anew reaches nobody.
        closed.bind(("127.0.0.1", 0))
        proxy.target = closed.getsockname()[1]
        proxy.strike("freeze")
        said = " ".join(ended(process, signal.SIGINT).split())
        job, pid = job_of(sshd)
        assert alive(pid), said
        assert f"job {job.name} could not be stopped (" in said
        assert "it continues to measure for up to 200 s" in said
        assert "harness device release board" in said
        (run,) = Path("results/tiny").iterdir()
        assert json.loads((run / "run.json").read_text())["state"] == "interrupted"
        proxy.target = sshd.port
        assert harness("device", "release", "board").out == "board: the job was ended\n"
    assert not alive(pid)
