"""How the command line ends: signals, exceptions that nobody foresaw, a broken installation."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

RUN = "from harness.cli import main; main()"
# A command that waits in a call that no signal in Python interrupts, and a thread that never ends.
HANGING = """\
import ctypes, signal, subprocess, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)
import harness.devices.registry
def load(*_):
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    {thread}
    from harness import leftovers
    with leftovers.noted("board: job x continues to measure"):
        threading.Timer(0.2, lambda: print("child", child.pid, flush=True)).start()
        {wait}
harness.devices.registry.load = load
from harness.cli import main
main()
"""
DEAF = (
    "lib = ctypes.CDLL(None); lock = ctypes.create_string_buffer(64); lib.pthread_mutex_lock(lock); lib.pthread_mutex_lock(lock)"
)
STUBBORN = """
        while True:
            try: time.sleep(600)
            except KeyboardInterrupt: pass"""


def command(code: str, *words: str, **changes: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **changes}
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, env=environment, timeout=120
    )


@contextmanager
def started(code: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A command under way, and the child that it says it has."""
    words = [sys.executable, "-c", code, "devices"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline().split()[1])
        finally:
            process.kill()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def report_of(said: str) -> Path:
    (path,) = re.findall(r"The crash report is (.+)", said)
    return Path(path)


@pytest.mark.faults
@pytest.mark.parametrize("wait", [DEAF, STUBBORN], ids=["in a library's call", "that swallows the first signal"])
@pytest.mark.parametrize("numbers", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGHUP)])
def test_a_second_signal_ends_a_process_that_hangs(wait: str, numbers: tuple[signal.Signals, ...]) -> None:
    with started(HANGING.format(wait=wait, thread="threading.Thread(target=time.sleep, args=(600,)).start()")) as (
        process,
        child,
    ):
        process.send_signal(numbers[0])
        time.sleep(0.6)
        assert process.poll() is None
        process.send_signal(numbers[1])
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "harness: ended at once by a second signal; left behind:\nharness: board: job x continues to measure" in said
        deadline = time.monotonic() + 60
        while is_alive(child):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_signals_that_come_together_count_as_one() -> None:
    wait = "\n        try: time.sleep(600)\n        except KeyboardInterrupt: time.sleep(1.5); print('ended well', flush=True); child.kill(); import os; os._exit(0)"
    with started(HANGING.format(wait=wait, thread="")) as (process, _):
        for _ in range(3):
            process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
        assert "ended well" in out


UNFORESEEN = """\
import harness.devices.registry
def load(*_):
    raise {what}
harness.devices.registry.load = load
from harness.cli import main
main()
"""
BROKEN = """\
import sys
sys.modules[{module!r}] = None
from harness.cli import main
main()
"""


@pytest.mark.parametrize(
    "what",
    [
        "KeyError('x')",
        "RecursionError",
        "MemoryError()",
        "SystemExit(1)",
        "SystemExit('words')",
        "UnicodeDecodeError('utf-8', b'x', 0, 1, 'y')",
        "type('Odd', (Exception,), {'__str__': lambda self: 1 / 0})()",
        "BaseException()",
    ],
)
def test_what_nobody_foresaw_is_one_message_and_a_report(what: str) -> None:
    done = command(UNFORESEEN.format(what=what), "devices", "--json")
    assert done.returncode == 70
    assert "Traceback" not in done.stderr
    assert all(line.startswith("harness: ") for line in done.stderr.splitlines())
    report = report_of(done.stderr)
    assert report.parent == Path(os.environ["QUANT_HARNESS_HOME"]) / "crashes"
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    content = report.read_text()
    assert "Traceback" in content
    assert "command: -c devices --json" in content
    assert json.loads(done.stdout)["exit"] == 70


@pytest.mark.parametrize("module", ["typer", "harness.cli.run", "pydantic", "harness.errors"])
def test_a_broken_installation_is_no_verdict(module: str) -> None:
    done = command(BROKEN.format(module=module), "devices")
    assert done.returncode == 70, done.stderr
    assert done.stderr.count("harness: ") >= 1


def test_a_thread_that_crashed_is_no_success() -> None:
    code = (
        "import threading\nfrom harness.cli import start\nfrom harness.cli import app\n"
        "def run():\n    thread = threading.Thread(target=lambda: {}['x'])\n    thread.start(); thread.join()\n    return 0\n"
        "app.run = run\nstart.start()\n"
    )
    done = command(code)
    assert done.returncode == 70
    assert "KeyError" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in report_of(done.stderr).read_text()


def test_a_report_goes_elsewhere_where_the_cache_takes_none(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file")
    done = command(UNFORESEEN.format(what="KeyError('x')"), "devices", QUANT_HARNESS_HOME=str(blocked), TMPDIR=str(tmp_path))
    assert done.returncode == 70
    assert report_of(done.stderr).parent == tmp_path
    nowhere = "import tempfile; tempfile.gettempdir = lambda: '/proc/nowhere'\n"
    done = command(nowhere + UNFORESEEN.format(what="KeyError('x')"), "devices", QUANT_HARNESS_HOME=str(blocked))
    assert done.returncode == 70
    assert "No crash report could be written; the traceback" in done.stderr


def test_old_reports_go() -> None:
    folder = Path(os.environ["QUANT_HARNESS_HOME"]) / "crashes"
    folder.mkdir(parents=True)
    for number in range(30):
        (folder / f"crash-2020-01-{number:02}.txt").write_text("old")
    done = command(UNFORESEEN.format(what="KeyError('x')"), "devices")
    assert report_of(done.stderr).exists()
    assert len(list(folder.iterdir())) == 20


@pytest.mark.faults
def test_the_first_signal_ends_a_command_that_waits_for_devices(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        entry = f'[board]\nhost = "127.0.0.1"\nport = {port}\nuser = "x"\nhost_key = "ssh-ed25519 AAAA"\nconnect_time = 60\n'
        proxied = '[proxied]\nhost = "proxied"\nuser = "x"\n'
        Path("devices.toml").write_text(entry.replace('host_key = "ssh-ed25519 AAAA"\n', "") + proxied)
        (Path(os.environ["HOME"]) / ".ssh").mkdir()
        marker = f"{tmp_path.name}-sleep"
        (Path(os.environ["HOME"]) / ".ssh" / "config").write_text(f"Host proxied\nProxyCommand exec -a {marker} sleep 600\n")
        words = [sys.executable, "-c", "import sys; sys.argv[0] = 'harness'; " + RUN, "devices"]
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process, silent.accept()[0]:
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "harness: interrupted\n"
    assert subprocess.run(["pgrep", "-f", marker], check=False, capture_output=True).returncode == 1
