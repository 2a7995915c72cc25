from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.devices.boards import process
from harness.devices.boards.process import Process, of_pid_file, start_of


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    monkeypatch.setattr(process, "REAP_SECONDS", 0)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "/x/pid"]) as child:
        yield child
        child.kill()


def known(child: subprocess.Popen[bytes]) -> Process:
    started = start_of(child.pid)
    assert started is not None
    return Process(child.pid, started)


def test_a_process_is_ended(child: subprocess.Popen[bytes]) -> None:
    running = known(child)
    assert running.stop(10)
    assert not running.is_alive, "what is left of it does not count"
    child.wait()
    assert start_of(child.pid) is None
    assert running.stop(10)


def test_another_process_with_the_number_is_left_alone(child: subprocess.Popen[bytes]) -> None:
    recycled = Process(child.pid, "another-boot/12345")
    assert not recycled.is_alive
    assert recycled.stop(10)
    assert child.poll() is None


def test_one_that_does_not_listen_is_ended_by_force() -> None:
    code = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert known(child).stop(0.2)
        assert child.wait() == -9


def test_a_number_in_a_file_counts_only_for_whoever_was_started_with_it(child: subprocess.Popen[bytes], tmp_path: Path) -> None:
    file = tmp_path / "pid"
    assert of_pid_file(file) is None
    file.write_text(f"{child.pid}\n")
    assert of_pid_file(file) is None
    file.write_text("no number")
    assert of_pid_file(file) is None
    code = "import time; print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE) as own:
        assert own.stdout is not None
        # Until it runs, the kernel has no command line of it.
        own.stdout.readline()
        file.write_text(str(own.pid))
        found = of_pid_file(file)
        assert found == known(own)
        own.kill()
