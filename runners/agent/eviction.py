"""Eviction from a device's store: the least recently used entries are deleted when room is needed, but nothing that a running job uses."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil

import store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# So much stays free for the device itself: journals, logs.
RESERVE = 32 << 20
# A job that has ended this long ago has been collected, or is not going to be.
JOB_SECONDS = 86400.0


def make_room(needed: int, quota: int | None, keep: set[str], alive: store.Alive) -> None:
    """Delete the least recently used entries until so many bytes fit, on the disk and into the quota.

    Raises:
        ValueError: if that is not enough; it names the disk or the quota, and nothing is deleted then.
    """
    excess = max(0, needed + RESERVE - free())
    if quota is not None:
        excess = max(excess, used() + needed - quota)
    if excess <= 0:
        return
    found = candidates(keep)
    chosen: list[Any] = []
    while found and sum(size for _, size, _ in chosen) < excess:
        chosen.append(found.pop(0))
    lacking = excess - sum(size for _, size, _ in chosen)
    if lacking > 0:
        what = "%s are needed in %s, which is %s more than can be freed" % (megabytes(needed), store.root(), megabytes(lacking))
        rest = "everything else there is in use, was just sent, or belongs to a runtime in use"
        if quota is not None and used() + needed > quota:
            raise ValueError(
                "the quota of its store, %s, is too small: %s; %s; raise quota for it in devices.toml"
                % (megabytes(quota), what, rest)
            )
        raise ValueError(
            "its disk is full: %s; %s are free, and %s must stay free for the device itself; %s"
            % (what, megabytes(free()), megabytes(RESERVE), rest)
        )
    for _, _, path in chosen:
        alive.tick()
        remove(path)


def free() -> int:
    """The bytes that this account may still write."""
    found = os.statvfs(store.root())
    return found.f_bavail * found.f_frsize


def used() -> int:
    """The bytes that the store takes up."""
    return sum(size_of(path) for path in parts())


def parts() -> list[str]:
    """What can be removed on its own: files, runtimes, jobs."""
    kinds = (("blobs", "sha256", "*"), ("runtimes", "[0-9a-f]" * 64 + "*"), ("jobs", "*"))
    return [path for kind in kinds for path in glob.glob(os.path.join(store.root(), *kind))]


def size_of(path: str) -> int:
    """The bytes of a file, or of all files of a folder."""
    with contextlib.suppress(OSError):
        if not os.path.isdir(path):
            return os.lstat(path).st_size
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def candidates(keep: set[str]) -> list[tuple[float, int, str]]:
    """What may go, as (last use, bytes, path), the longest unused first."""
    keep = keep | in_use()
    found = []
    for path in parts():
        name = os.path.basename(path).split(".")[0]
        kind = os.path.basename(os.path.dirname(path))
        with contextlib.suppress(OSError):
            last = os.lstat(path).st_mtime
            if kind == "jobs" and (store.is_running(os.path.basename(path)) or now() - last < JOB_SECONDS):
                continue
            if kind == "jobs" or name not in keep:
                found.append((last, size_of(path), path))
    return sorted(found)


def now() -> float:
    """The time by which files are dated."""
    marker = os.path.join(store.root(), "now")
    with open(marker, "wb"):
        os.utime(marker)
    return os.lstat(marker).st_mtime


def in_use() -> set[str]:
    """The hashes of what running jobs use, and of the runtimes that Pythons have adopted."""
    found: set[str] = set()
    for job in store.jobs():
        if store.is_running(job):
            with contextlib.suppress(ValueError, TypeError):
                strings(json.loads(store.read_small(store.job_path(job, "request.json"))), found)
    with contextlib.suppress(ValueError, TypeError):
        strings(json.loads(store.read_small(os.path.join(store.runtime_path(), "current"))), found)
    return found


def strings(value: Any, found: set[str]) -> None:  # noqa: ANN401 - JSON
    """Collect every string in a document."""
    if isinstance(value, str):
        found.add(value)
    elif isinstance(value, (list, dict)):
        for each in value.values() if isinstance(value, dict) else value:
            strings(each, found)


def remove(path: str) -> None:
    """Remove a file with its layout, or a folder."""
    if os.path.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
        return
    for each in (os.path.join(store.root(), "blobs", "layouts", os.path.basename(path)), path):
        with contextlib.suppress(OSError):
            os.unlink(each)


def megabytes(size: int) -> str:
    """A size for people."""
    return "%.1f MB" % (size / 1e6)
