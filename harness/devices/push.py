"""The controller's side of an upload: one stream with everything that the device lacks, and every distinct tensor once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from harness.devices import pieces
from harness.errors import LostError, RunnerError, TransferError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from harness.devices.conversation import Agent, Conversation
    from harness.devices.pieces import Piece

STEP = "push"
# Small pieces are gathered: an SSH packet has a price of its own.
CHUNK = 1 << 18
# A file that is built from damaged ones is sent whole, once.
ATTEMPTS = 2


def push(agent: Agent, files: Mapping[str, Path], quota: int | None) -> int:
    """Upload files to the device's store.

    Args:
        agent: the device's.
        files: by sha256, in hex.
        quota: how many bytes the store may take up; None is as many as fit.

    Returns:
        The number of bytes of files that were sent.

    Raises:
        TransferError: if one can't be read here, arrived damaged, or can't be stored there.
    """
    sizes = {sha256: _size(path, agent.device.name) for sha256, path in files.items()}
    sent = 0
    with agent.run(STEP, "receive") as talk:
        damaged: list[str] = []
        for attempt in range(ATTEMPTS):
            wanted = {sha256: sizes[sha256] for sha256 in damaged} if attempt else sizes
            talk.say({"files": list(wanted.items()), "quota": quota})
            missing = _missing(talk, wanted)
            if not missing:
                break
            # Only a large model's tensors are a file without a suffix, under its hash.
            large = any(files[sha256].name == sha256 for sha256 in missing)
            starts = pieces.outside(path for path in files.values() if path.suffix == pieces.SUFFIX) if large else {}
            with ThreadPoolExecutor(pieces.processors()) as pool:
                cuts = list(
                    pool.map(pieces.cut, [files[name] for name in missing], missing, [starts.get(name, ()) for name in missing])
                )
            layouts = dict(zip(missing, cuts, strict=True))
            said = {sha256: [(piece.sha256, piece.size) for piece in layout] for sha256, layout in layouts.items()}
            talk.say({"layouts": said, "fresh": bool(attempt)})
            asked = talk.expect("needed").get("pieces")
            sent += _send(talk, files, _ranges(talk, asked, layouts))
            damaged = _stored(talk, missing)
            if not damaged:
                break
        else:
            names = ", ".join(files[sha256].name for sha256 in damaged[:3])
            reason = f"{names}: checksum mismatch after the upload; either the file changed during the upload, or the device's disk is faulty"
            raise TransferError(agent.device.name, STEP, reason)
        talk.end()
    return sent


def _size(path: Path, device: str) -> int:
    try:
        return path.stat().st_size
    except OSError as exc:
        raise TransferError(device, STEP, f"{path}: can't be read: {exc.strerror}") from exc


def _missing(talk: Conversation, wanted: Mapping[str, int]) -> list[str]:
    """Which of the offered files the device lacks."""
    said = talk.expect("missing").get("sha256")
    missing = list(dict.fromkeys(map(str, said))) if isinstance(said, list) else []
    if unknown := [sha256 for sha256 in missing if sha256 not in wanted]:
        raise TransferError(talk.device, STEP, f"the device requests a file that it was not offered: {unknown[0][:80]}")
    return missing


def _ranges(talk: Conversation, asked: object, layouts: Mapping[str, Sequence[Piece]]) -> list[tuple[str, int, int]]:
    """The ranges that the device asks for, as (file, offset, bytes), checked against what it was offered."""
    found = []
    try:
        for sha256, number, done in asked if isinstance(asked, list) else ():
            piece = layouts[sha256][number]
            if not 0 <= done <= piece.size or number < 0:
                raise ValueError  # noqa: TRY301 - one way out for all that does not fit
            found.append((sha256, piece.offset + done, piece.size - done))
    except (KeyError, IndexError, TypeError, ValueError) as exc:
        raise TransferError(talk.device, STEP, f"the device requests pieces that it was not offered: {asked!r:.80}") from exc
    return found


def _send(talk: Conversation, files: Mapping[str, Path], ranges: Sequence[tuple[str, int, int]]) -> int:
    """Send ranges one after the other. Returns the number of bytes."""
    sent = 0
    try:
        for data in _chunks(files, ranges):
            talk.write(data)
            sent += len(data)
    except LostError:
        raise
    except RunnerError as exc:
        # The agent explains itself before it ends; its words are better than ours.
        for _ in talk.replies:
            pass
        raise TransferError(talk.device, STEP, exc.reason) from exc
    except OSError as exc:
        raise TransferError(talk.device, STEP, f"{exc.filename}: can't be read: {exc.strerror}") from exc
    return sent


def _chunks(files: Mapping[str, Path], ranges: Sequence[tuple[str, int, int]]) -> Iterator[bytes]:
    """Yield the bytes of ranges, in chunks that are large enough for a write."""
    gathered = bytearray()
    opened, file = None, None
    try:
        for sha256, offset, size in ranges:
            if sha256 != opened:
                if file is not None:
                    file.close()
                opened, file = sha256, files[sha256].open("rb")
            assert file is not None  # noqa: S101 - for the type checker
            file.seek(offset)
            left = size
            while left:
                data = file.read(min(CHUNK - len(gathered), left))
                # A file that got shorter: the hash over there will not fit.
                data = data or bytes(min(CHUNK - len(gathered), left))
                left -= len(data)
                gathered += data
                if len(gathered) == CHUNK:
                    yield bytes(gathered)
                    gathered.clear()
    finally:
        if file is not None:
            file.close()
    if gathered:
        yield bytes(gathered)


def _stored(talk: Conversation, missing: Sequence[str]) -> list[str]:
    """Wait until every file is stored. Returns those whose checksum is wrong."""
    left, damaged = set(missing), []
    while left:
        said = talk.expect("stored", "damaged")
        sha256 = str(said.get("sha256"))
        if sha256 not in left:
            raise TransferError(talk.device, STEP, f"the device reports a file that it was not sent: {sha256[:80]}")
        left.remove(sha256)
        damaged += [sha256] if said["event"] == "damaged" else []
    return damaged
