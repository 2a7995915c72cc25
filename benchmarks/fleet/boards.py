"""The boards of the fleet: OpenSSH servers on 127.0.0.1, each with a store of its own, or one server with many stores."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from tests.sshd import SshServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WRAPPER = """\
#!/bin/sh
QUANT_HARNESS_HOME='{store}' QUANT_HARNESS_LEASE='{lease}' exec '{python}' "$@"
"""
DROPPED = re.compile(rb"drop connection #")


class Fleet:
    """The boards: servers, and the entries of devices.toml that lead to them.

    Attributes:
        servers: all there are.
        entries: of devices.toml, one for each board.
        stores: of each board.
    """

    def __init__(self, servers: Sequence[SshServer], entries: Sequence[str], stores: Sequence[Path]) -> None:
        self.servers, self.entries, self.stores = servers, entries, stores

    def turned_away(self) -> int:
        """How many connections the servers dropped by MaxStartups."""
        return sum(len(DROPPED.findall((server.folder / "log").read_bytes())) for server in self.servers)

    def cpu_seconds(self) -> float:
        """What logins and agents took so far: of the servers and of all processes that they have started and seen end; jobs are detached."""
        spent = 0
        for server in self.servers:
            fields = Path(f"/proc/{server._process.pid}/stat").read_text().rpartition(")")[2].split()  # noqa: SLF001 - its process id
            spent += sum(map(int, fields[11:15]))
        return spent / os.sysconf("SC_CLK_TCK")

    def end_jobs(self) -> None:
        """End what an interrupted run left, by the ids that the boards wrote down, as long as the job holds its lock."""
        for store in self.stores:
            for lock in store.glob("jobs/*/lock"):
                with contextlib.suppress(OSError, ValueError), lock.open("rb") as file:
                    try:
                        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    except BlockingIOError:
                        os.killpg(int((lock.parent / "pid").read_text()), signal.SIGKILL)


@contextlib.contextmanager
def running() -> Iterator[SshServer]:
    """A server; also one that is interrupted while it starts is ended."""
    server = SshServer()
    try:
        yield server.__enter__()
    finally:
        if hasattr(server, "_process"):
            server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)


@contextlib.contextmanager
def own_servers(devices: int) -> Iterator[Fleet]:
    """A server for each board."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(running()) for _ in range(devices)]
        entries = [server.entry(f"board{number:02}") for number, server in enumerate(servers)]
        fleet = Fleet(servers, entries, [server.store for server in servers])
        stack.callback(fleet.end_jobs)
        yield fleet


@contextlib.contextmanager
def one_server(devices: int) -> Iterator[Fleet]:
    """All boards behind one server; a board's Python says which store is its own."""
    with running() as server:
        stores, entries = [], []
        for number in range(devices):
            stores.append(server.folder / f"store{number:02}")
            python = server.folder / f"python{number:02}"
            python.write_text(WRAPPER.format(store=stores[-1], lease=f"{server.lease}-{len(stores)}", python=server.python))
            python.chmod(0o755)
            entries.append(server.entry(f"board{number:02}", python=str(python)))
        fleet = Fleet([server], entries, stores)
        try:
            yield fleet
        finally:
            fleet.end_jobs()
