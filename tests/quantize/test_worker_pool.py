from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from harness.quantize.worker_pool import WorkerDiedError, WorkerPool


def die(code: int) -> None:
    os._exit(code)


def kill_yourself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sleep_as(path: str) -> None:
    Path(path).write_text(str(os.getpid()), encoding="ascii")
    time.sleep(60)


class Unpicklable(Exception):  # noqa: N818 - it is one of many that libraries have
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def fail(kind: type[Exception], *words: object) -> None:
    raise kind(*words)


def chatter(text: str) -> str:
    sys.stdout.write(text)
    sys.stdout.flush()
    os.write(1, text.encode())
    return text


def test_calls_run_elsewhere_and_a_death_is_one_calls_own() -> None:
    with WorkerPool(1) as children:
        pid = children.submit(os.getpid).result()
        assert pid != os.getpid()
        assert children.submit(chatter, "loud").result() == "loud"
        assert children.submit(os.getpid).result() == pid
        assert children.submit(os.getpgrp).result() == pid  # Ctrl-C goes to the parent's group
        with pytest.raises(WorkerDiedError, match="ended by SIGKILL; perhaps the machine ran out of memory"):
            children.submit(kill_yourself).result()
        with pytest.raises(WorkerDiedError, match="ended with code 3"):
            children.submit(die, 3).result()
        with pytest.raises(ZeroDivisionError, match="nought"):
            children.submit(fail, ZeroDivisionError, "nought").result()
        with pytest.raises(RuntimeError, match="1 and 2"):
            children.submit(fail, Unpicklable, 1, 2).result()
        with pytest.raises(AttributeError):
            children.submit(lambda: None).result()  # can't be pickled
        assert children.submit(os.getpid).result() != pid


def test_shutdown_ends_what_runs(tmp_path: Path) -> None:
    children = WorkerPool(1)
    mark = tmp_path / "pid"
    running, waiting = children.submit(sleep_as, str(mark)), children.submit(os.getpid)
    while not (mark.exists() and mark.read_text()):
        time.sleep(0.02)
    children.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(WorkerDiedError):
        running.result()
    with pytest.raises(CancelledError):
        waiting.result()
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)
    with pytest.raises(RuntimeError):
        children.submit(os.getpid)
    assert not any("ThreadPool" in thread.name for thread in threading.enumerate())


def test_a_parents_end_is_the_childs() -> None:
    """Killed before it could end them, it leaves none behind: their input ends."""
    program = (
        "import os, sys; sys.path[:0] = sys.argv[1:]\n"
        "from harness.quantize.worker_pool import WorkerPool\n"
        "children = WorkerPool(1); print(children.submit(os.getpid).result(), flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", program, *sys.path], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    pid = int(done.stdout)
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text(encoding="utf-8"):
            return  # nobody there to bury it
        time.sleep(0.05)
    pytest.fail(f"process {pid} is still there")
