"""What tests share that strike a board in the middle of a run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.devices import registry
from harness.devices.link import Link
from harness.measure.events import Event
from harness.measure.launch import Launch
from harness.measure.route_events import DeviceFailed
from tests.cli.test_ssh_resume import Striker, events
from tests.sshd import SshServer

BOTH = ("board", "local")


def failure(folder: Path) -> DeviceFailed:
    (failed,) = [event for event in events(folder) if isinstance(event, DeviceFailed)]
    return failed


def rounds(folder: Path, device: str) -> list[int]:
    """The rounds of which a device's blocks are here."""
    return sorted(event.round for event in events(folder) if isinstance(event, Launch) and event.device == device)


def job_of(sshd: SshServer) -> tuple[Path, int]:
    (folder,) = (sshd.store / "jobs").iterdir()
    return folder, int((folder / "pid").read_text())


def board(sshd: SshServer, **keys: str | int) -> None:
    Path("devices.toml").write_text(sshd.entry("board", **keys))


@contextmanager
def opened(name: str = "board") -> Iterator[Link]:
    link = Link(registry.load().get(name))
    try:
        yield link
    finally:
        link.close()


class Timed(Striker):
    """Says how long it took from the blow to the failure."""

    at = noticed = 0.0

    def event(self, event: Event) -> None:
        if isinstance(event, DeviceFailed):
            self.noticed = time.monotonic() - self.at
        before = self.struck
        super().event(event)
        if self.struck and not before:
            self.at = time.monotonic()
