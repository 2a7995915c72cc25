"""Boards whose disks are full or may not be written in the middle of a run."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import DeviceError, Exit
from harness.measure.events import FidelityLine
from tests.cli.struck import BOTH, Timed, board, failure, opened, rounds
from tests.cli.test_ssh_resume import Striker, events, run
from tests.devices.test_push import files
from tests.sshd import SshServer
from tests.wheelhouse import packed

if TYPE_CHECKING:
    from tests.cli.conftest import Command

pytestmark = [pytest.mark.ssh, pytest.mark.slow, pytest.mark.faults]
root_only = pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a small disk")


@contextmanager
def mounted(place: Path, megabytes: int, inodes: int = 10_000) -> Iterator[None]:
    place.mkdir(mode=0o755, exist_ok=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,nr_inodes={inodes},mode=777", "none", str(place)], check=True
    )
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> None:
    """Leave no byte free."""
    with (place / "fill").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(1 << 16)):
                pass
        except OSError:
            pass


@root_only
@pytest.mark.parametrize(("kind", "measured"), [("round", True), ("pushed", False)])
def test_a_disk_that_is_full_while_the_job_runs_is_named_and_nothing_is_lost(
    harness: Command, study: Path, sshd: SshServer, kind: str, measured: bool
) -> None:
    board(sshd)
    with mounted(sshd.store, 48):
        watcher = Timed(kind, lambda: fill(sshd.store))
        folder, exit_code = run(study, watcher, rounds=12, devices=BOTH)
        assert exit_code == Exit.INCOMPLETE
        failed = failure(folder)
        # Everything is there; the job's own files have no room.
        assert (failed.device, failed.step) == ("board", "measure" if measured else "start")
        assert f"the disk of {sshd.store} is full{'; what' if measured else ''}" in failed.reason
        assert watcher.noticed < 120
        kept = rounds(folder, "board")
        assert rounds(folder, "local") == list(range(12))
        assert len(list(sshd.store.glob("jobs/*/pid"))) == measured
        texts = [path.read_text() for path in sshd.store.glob("jobs/*/journal.jsonl")]
        there = [json.loads(line) for text in texts for line in text.splitlines(keepends=True) if line.endswith("\n")]
        assert kept == [line["round"] for line in there if line["event"] == "duet"]
        assert bool(kept) == measured
        (sshd.store / "fill").unlink()
        done = harness("run", "--resume", "latest", "--json")
        assert done.code == 0, done.err
    assert rounds(folder, "board") == list(range(12))


@root_only
def test_a_disk_that_is_full_when_outputs_are_written_is_no_cases_fault(harness: Command, study: Path, sshd: SshServer) -> None:
    board(sshd)
    with mounted(sshd.store, 48):
        folder, exit_code = run(study, Timed("begin", lambda: fill(sshd.store)), rounds=3, devices=BOTH)
        assert exit_code == Exit.INCOMPLETE
        failed = failure(folder)
        assert (failed.device, failed.step) == ("board", "measure")
        assert f"the disk of {sshd.store} is full" in failed.reason
        assert not [event for event in events(folder) if event.event == "failed"]
        (sshd.store / "fill").unlink()
        assert harness("run", "--resume", "latest").code == 0
    assert rounds(folder, "board") == [0, 1, 2]
    assert {event.case for event in events(folder) if isinstance(event, FidelityLine) and event.device == "board"} == {"c0", "c1"}


@root_only
def test_a_runtime_that_does_not_fit_is_told_and_leaves_nothing(sshd: SshServer, tmp_path: Path) -> None:
    board(sshd)
    wheel = packed(tmp_path / "numpy-1-py3-none-any.whl", {"numpy/zeros": b"\0" * 30_000_000})
    with mounted(sshd.store, 48, 60), opened() as link:
        wanted = files(wheel)
        link.push(wanted)
        with (sshd.store / "fill").open("wb") as file:
            file.write(bytes(25_000_000))
        with pytest.raises(
            DeviceError, match=r"^board: provision: can't unpack numpy.*: 28 MB in 1 files are too much: there is room for "
        ):
            link.unpack({name: path.name for name, path in wanted.items()})
        # More files than the disk has places for: it is noticed on the way.
        (sshd.store / "fill").unlink()
        many = packed(tmp_path / "numpy-2-py3-none-any.whl", {f"numpy/{number}": b"" for number in range(60)})
        link.push(files(many))
        with pytest.raises(DeviceError, match=r"^board: provision: the disk of .* is full: .*\.part/numpy/"):
            link.unpack({name: path.name for name, path in files(many).items()})
        assert list((sshd.store / "runtimes").glob("*.part")) == []


@pytest.mark.parametrize("where", ["jobs", "."])
def test_a_store_that_may_not_be_written_at_start_is_named(study: Path, sshd: SshServer, where: str) -> None:
    board(sshd)
    place = sshd.store / where

    def strike() -> None:
        place.mkdir(exist_ok=True)
        place.chmod(0o500)

    try:
        folder, exit_code = run(study, Striker("pushed", strike), devices=BOTH)
    finally:
        place.chmod(0o700)
    assert exit_code == Exit.INCOMPLETE
    failed = failure(folder)
    assert (failed.device, failed.step) == ("board", "start")
    denied = {
        "jobs": f"Permission denied: {sshd.store}/jobs",
        ".": f"the store {sshd.store} can't be written: the account {sshd.user} may not write to {sshd.store}, its own folder (mode 500, ",
    }
    assert failed.reason.startswith(denied[where])
    assert rounds(folder, "local") == [0, 1, 2]
