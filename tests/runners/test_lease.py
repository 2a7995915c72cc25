"""One job at a time has a device, and those that wait get it in the order they came: real processes."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.devices.test_agent import run as agent
from tests.runners.fakes import alive, begin, children, journal, named, place, until

TRIALS, AT_ONCE = 200, 10
# A worker that holds the device until it is told to let go.
HOLDS = "while not os.path.exists({!r}): time.sleep(0.02)"


def ended(process: subprocess.Popen[str]) -> None:
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 0


def race(store: Path) -> list[list[str]]:
    """Start two jobs at once; the one that got the device lets go when both have said something. Gives their events."""
    code = HOLDS.format(str(store / "go"))
    folders = [place(store, name, code, rounds=0, units=[], who={"user": name}) for name in ("one", "two")]
    processes = [begin(folder, QUANT_HARNESS_LEASE=f"{os.getpid()}-{store.name}") for folder in folders]
    until(lambda: all(journal(folder) for folder in folders))
    (store / "go").touch()
    for process in processes:
        ended(process)
    said = sorted((journal(folder) for folder in folders), key=len)
    assert json.loads(said[0][0]["holder"])["user"] != ""
    return [[line["event"] for line in lines] for lines in said]


@pytest.mark.slow
@pytest.mark.faults
def test_of_two_jobs_that_race_exactly_one_wins_every_time(tmp_path: Path) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(race, [tmp_path / str(number) for number in range(TRIALS)]))
    assert found == [[["busy"], ["begin", "evaluated", "end"]]] * TRIALS


def test_those_who_wait_come_in_order_and_a_killed_one_is_in_nobodys_way(tmp_path: Path) -> None:
    go = HOLDS.format(str(tmp_path / "go"))
    jobs = [place(tmp_path, f"j{number}", go, rounds=0, units=[], wait=60) for number in range(5)]
    processes = []
    for number, folder in enumerate(jobs):
        # The clock of the third one is set back before it asks.
        (tmp_path / f"clock{number}").mkdir()
        text = "import time\ntime.time = lambda: 1e9\ntime.time_ns = lambda: 10**18\n" if number == 2 else ""
        (tmp_path / f"clock{number}" / "sitecustomize.py").write_text(text)
        processes.append(begin(folder, PYTHONPATH=str(tmp_path / f"clock{number}")))
        until(partial(journal, folder))
    assert [journal(folder)[0]["event"] for folder in jobs] == ["begin", "waiting", "waiting", "waiting", "waiting"]
    processes[1].kill()
    processes[1].communicate()
    (tmp_path / "go").touch()
    for number in (0, 2, 3, 4):
        ended(processes[number])
    order = sorted((0, 2, 3, 4), key=lambda number: (jobs[number] / "rc").stat().st_mtime_ns)
    assert order == [0, 2, 3, 4]
    assert list((tmp_path / "queue").iterdir()) == []


def test_a_frozen_job_that_waits_is_named_to_those_behind_it(tmp_path: Path) -> None:
    first = place(tmp_path, "first", HOLDS.format(str(tmp_path / "go")), rounds=0, units=[])
    processes = [begin(first)]
    until(lambda: named(first, "begin"))
    frozen = place(tmp_path, "frozen", "pass", rounds=0, units=[], wait=60)
    processes.append(begin(frozen))
    until(lambda: named(frozen, "waiting"))
    os.kill(processes[1].pid, signal.SIGSTOP)
    (tmp_path / "go").touch()
    ended(processes[0])
    last = place(tmp_path, "last", "pass", rounds=0, units=[])
    ended(begin(last))
    assert [json.loads(line["holder"]) for line in journal(last)] == [{"job": "frozen"}]
    os.kill(processes[1].pid, signal.SIGCONT)
    ended(processes[1])


def held(store: Path) -> tuple[Path, subprocess.Popen[str]]:
    """A job that is measured for as long as nobody ends it, started as the agent does: its lock is held from before its first line."""
    folder = place(store, "stuck", "time.sleep(100)", timeout=200.0)
    with (folder / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = begin(folder, lock.fileno())
    (folder / "pid").write_text(str(process.pid))
    until(lambda: named(folder, "begin") and children(process.pid))
    return folder, process


def test_release_ends_the_workers_of_a_job_that_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANT_HARNESS_HOME", str(tmp_path))
    _, process = held(tmp_path)
    (worker,) = children(process.pid)
    process.kill()
    process.communicate()
    assert alive(worker), "it holds the device on its own"
    assert agent("release")[0] == [{"event": "stopped", "was_running": True}]
    until(lambda: not alive(worker))
    assert agent("release")[0] == [{"event": "stopped", "was_running": False}]


def test_following_a_job_that_died_ends_its_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANT_HARNESS_HOME", str(tmp_path))
    folder, process = held(tmp_path)
    (worker,) = children(process.pid)
    process.kill()
    process.communicate()
    assert agent("follow", folder.name, "0")[0][-1] == {"event": "died", "log": ""}
    until(lambda: not alive(worker))


@pytest.mark.parametrize("freeze", [[], ["worker"], ["job", "worker"]])
def test_release_ends_a_job_also_one_that_is_frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, freeze: list[str]) -> None:
    monkeypatch.setenv("QUANT_HARNESS_HOME", str(tmp_path))
    _, process = held(tmp_path)
    (worker,) = children(process.pid)
    for name in freeze:
        os.kill({"worker": worker, "job": process.pid}[name], signal.SIGSTOP)
    begun = time.monotonic()
    assert agent("release")[0] == [{"event": "stopped", "was_running": True}]
    assert time.monotonic() - begun < 60
    process.communicate(timeout=60)
    assert process.returncode == (-signal.SIGKILL if "job" in freeze else 0)
    until(lambda: not alive(worker))
