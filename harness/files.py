"""Files that are replaced whole or not at all, and their checksums."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """Write a file beside its place, and rename it to there when the block ends; if the block fails, the place stays as it was.

    Two processes may do so at once: each writes a file of its own, and the last one to end wins. The permissions of a file that
    is replaced are kept.

    Args:
        path: the place.
        sync: see the content to the disk before it is renamed, so that it also survives a power failure.

    Yields:
        The path to write to, where no file is yet.

    Raises:
        OSError: if the file can't be written or renamed.
    """
    beside = path.with_name(f".{path.name[:50]}.{secrets.token_hex(4)}.new")
    try:
        yield beside
        if path.exists():
            shutil.copymode(path, beside)
        if sync:
            with beside.open("rb") as file:
                os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, data: bytes, *, sync: bool = False) -> None:
    """Write a file as :func:`replacing` does.

    Raises:
        OSError: if the file can't be written; the place stays as it was.
    """
    with replacing(path, sync=sync) as beside:
        beside.write_bytes(data)


def write_text(path: Path, text: str, *, sync: bool = False) -> None:
    """Write a file in UTF-8, as :func:`replacing` does.

    Raises:
        OSError: if the file can't be written; the place stays as it was.
    """
    write_bytes(path, text.encode(), sync=sync)


def copy(source: Path, target: Path) -> None:
    """Copy a file's content, as :func:`replacing` does.

    Raises:
        OSError: if one can't be read, or the other can't be written; the target stays as it was.
    """
    with replacing(target) as beside:
        shutil.copyfile(source, beside)


def sha256(path: Path) -> str:
    """The sha256 of a file's content, in hex.

    Raises:
        OSError: if the file can't be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
