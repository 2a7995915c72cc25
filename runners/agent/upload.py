"""Uploads to a device's store: files are built from pieces that are stored and pieces that arrive, verified, and then renamed into place.

The part of a file that a broken connection leaves is kept and continued. PROTOCOL.md describes the messages.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import sys
import time

import eviction
import small_files
import store
from stream import Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

    from protocol import Layouts, Offer

# A sender that says nothing for so long is gone; until then its place in the store is its own.
IDLE_SECONDS = 20.0
BUFFER = 1 << 20


def receive() -> None:
    """Report which files are missing and which pieces they need; then build and store them."""
    store.folder(os.path.dirname(store.blob_path("0" * 64)))
    store.folder(layouts_path())
    stream = Stream()
    while True:
        line = stream.line()
        if not line:
            return
        asked: Offer = json.loads(line)
        sizes = {store.hashed(sha256): int(size) for sha256, size in asked["files"]}
        missing = [sha256 for sha256, size in sizes.items() if not is_there(sha256, size)]
        store.say({"event": "missing", "sha256": missing})
        if not missing and asked.get("quota"):
            # It may have been set, or lowered, since the last delivery; what is in use stays in any case.
            with contextlib.suppress(ValueError):
                eviction.make_room(0, asked["quota"], set(sizes), store.Alive())
        if missing:
            with locked() as alone:
                Upload(stream, sizes, missing, alone).take(asked.get("quota"))


def is_there(sha256: str, size: int) -> bool:
    """Whether a file is stored in its whole size, which a power failure may have cut; asking counts as a use."""
    path = store.blob_path(sha256)
    try:
        if os.path.getsize(path) == size:
            os.utime(path)
            return True
    except OSError:
        return False
    forget(sha256)
    return False


def forget(sha256: str) -> None:
    """Remove a file and its layout."""
    for path in (layouts_path(sha256), store.blob_path(sha256)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def layouts_path(*names: str) -> str:
    """The path of the layouts: the pieces of which stored files consist."""
    return os.path.join(store.root(), "blobs", "layouts", *names)


@contextlib.contextmanager
def locked() -> Any:  # noqa: ANN401 - an iterator
    """Yield whether this is the only delivery; only then may it continue the parts that another one left."""
    with open(os.path.join(store.root(), "blobs", "lock"), "wb") as lock:
        alive, deadline = store.Alive(), time.monotonic() + IDLE_SECONDS + 5
        alone = store.take(lock)
        while not alone and time.monotonic() < deadline:
            alive.tick()
            time.sleep(0.2)
            alone = store.take(lock)
        yield alone


class Upload:
    """Some missing files, built one after the other.

    A piece comes from a file that is there, from one that was built before, or from the stream.
    """

    def __init__(self, stream: Stream, sizes: dict[str, int], missing: list[str], alone: bool) -> None:  # noqa: FBT001
        self.stream, self.sizes, self.missing, self.alone = stream, sizes, missing, alone
        self.alive = store.Alive()
        self.buffer = memoryview(bytearray(BUFFER))

    def take(self, quota: int | None) -> None:
        """Read the layouts, ask for what is needed, and build."""
        said: Layouts = json.loads(self.stream.line())
        fresh = bool(said.get("fresh"))
        layouts = {
            sha256: [(store.hashed(piece), int(size)) for piece, size in said["layouts"][sha256]] for sha256 in self.missing
        }
        for sha256, pieces in layouts.items():
            if sum(size for _, size in pieces) != self.sizes[sha256] or min([size for _, size in pieces], default=0) < 0:
                raise ValueError("the sizes of the pieces of %s do not add up to its size" % sha256)
        begun = {} if fresh else {sha256: self.begun(sha256) for sha256 in self.missing}
        eviction.make_room(
            sum(self.sizes[sha256] - begun.get(sha256, 0) for sha256 in self.missing), quota, set(self.sizes), self.alive
        )
        known = {} if fresh else index()
        steps = {sha256: self.plan(sha256, pieces, begun.get(sha256, 0), known) for sha256, pieces in layouts.items()}
        needed = [step[3] for plan in steps.values() for step in plan if step[0] is None]
        store.say({"event": "needed", "pieces": needed})
        open(os.path.join(store.root(), "blobs", "unsynced"), "wb").close()
        for sha256, plan in steps.items():
            self.build(sha256, plan, begun.get(sha256, 0), layouts[sha256])
        # Not for each: every word is a packet, and wakes the sender in the midst of sending.
        sys.stdout.flush()

    def part(self, sha256: str) -> str:
        """Where a file is built."""
        return store.blob_path(sha256) + (".part" if self.alone else ".%d.part" % os.getpid())

    def begun(self, sha256: str) -> int:
        """How many bytes of a file an interrupted delivery has left."""
        with contextlib.suppress(OSError):
            size = os.path.getsize(self.part(sha256))
            if size <= self.sizes[sha256]:
                return size
        return 0

    def plan(self, sha256: str, pieces: list[tuple[str, int]], begun: int, known: dict[str, tuple[str, int]]) -> list[Any]:
        """The steps that complete a file: (the file to copy from, or None for the stream; the offset there; bytes; what to ask for)."""
        steps: list[Any] = []
        position = 0
        for number, (piece, size) in enumerate(pieces):
            done = min(max(begun - position, 0), size)
            if done < size and piece in known:
                source, offset = known[piece]
                steps.append((source, offset + done, size - done, None))
            elif done < size:
                steps.append((None, 0, size - done, [sha256, number, done]))
            known.setdefault(piece, (sha256, position))
            position += size
        return steps

    def build(self, sha256: str, steps: list[Any], begun: int, pieces: list[tuple[str, int]]) -> None:
        """Complete a file. It is renamed into place if its hash is right, and reported as damaged otherwise."""
        part = self.part(sha256)
        digest = hashlib.sha256()
        whole = True
        try:
            with open(part, "r+b" if begun else "wb", buffering=0) as file:
                if begun:
                    self.copy(part, 0, begun, digest, None)
                    file.seek(begun)
                for source, offset, size, _asked in steps:
                    if source is None:
                        self.fill(size, digest, file)
                    else:
                        path = part if source == sha256 else store.blob_path(source)
                        whole = self.copy(path, offset, size, digest, file) and whole
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                # Nobody could go on from it: what it takes up is needed.
                with contextlib.suppress(OSError):
                    os.unlink(part)
            raise
        if not whole or digest.hexdigest() != sha256:
            os.unlink(part)
            for source in {step[0] for step in steps} - {None, sha256}:
                self.check(source)
            store.say({"event": "damaged", "sha256": sha256})
            return
        if len(pieces) > 1:
            small_files.replace(layouts_path(sha256), json.dumps(pieces))
        os.rename(part, store.blob_path(sha256))
        store.mention({"event": "stored", "sha256": sha256})

    def fill(self, size: int, digest: Any, file: BinaryIO) -> None:  # noqa: ANN401 - hashlib's type has no public name
        """Write bytes of the stream."""
        while size:
            count = self.stream.more(self.buffer[: min(size, BUFFER)], IDLE_SECONDS)
            if not count:
                raise EOFError("the stream ended %d bytes before the end of a file" % size)
            write(file, self.buffer[:count])
            digest.update(self.buffer[:count])
            size -= count

    def copy(self, path: str, offset: int, size: int, digest: Any, file: BinaryIO | None) -> bool:  # noqa: ANN401
        """Copy bytes of a stored file; False if it has fewer."""
        with contextlib.suppress(FileNotFoundError), open(path, "rb", buffering=0) as source:
            source.seek(offset)
            while size:
                self.alive.tick()
                count = source.readinto(self.buffer[: min(size, BUFFER)])
                if not count:
                    return False
                digest.update(self.buffer[:count])
                if file is not None:
                    write(file, self.buffer[:count])
                size -= count
            return True
        return False

    def check(self, sha256: str) -> None:
        """Remove a stored file whose content does not match its name any more."""
        digest = hashlib.sha256()
        with contextlib.suppress(FileNotFoundError):
            self.copy(store.blob_path(sha256), 0, os.path.getsize(store.blob_path(sha256)), digest, None)
            if digest.hexdigest() != sha256:
                forget(sha256)


def write(file: BinaryIO, data: memoryview) -> None:
    """Write all of it: an unbuffered write may take a part."""
    while data:
        data = data[file.write(data) :]


def index() -> dict[str, tuple[str, int]]:
    """The pieces that are stored, by hash: the file, and the offset in it."""
    known: dict[str, tuple[str, int]] = {}
    for name in os.listdir(os.path.join(store.root(), "blobs", "sha256")):
        if "." not in name:
            known[name] = (name, 0)
    for path in glob.glob(layouts_path("*")):
        sha256, position = os.path.basename(path), 0
        with contextlib.suppress(ValueError, TypeError):
            if sha256 in known:
                for piece, size in json.loads(store.read_small(path)):
                    known.setdefault(piece, (sha256, position))
                    position += size
    return known
