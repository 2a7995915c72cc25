"""Small files: those of the kernel in /proc and /sys, and those that a program keeps."""

from __future__ import annotations

import contextlib
import os
import re


def read_text(path: str) -> str | None:
    """A small file's text, stripped, or None."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20).strip("\0\n ")
    except OSError:
        return None


def read_int(path: str) -> int | None:
    """A small file's integer, or None."""
    text = read_text(path)
    return int(text) if text and re.fullmatch(r"-?\d+", text) else None


def replace(path: str, text: str) -> None:
    """Write a file under another name and rename it, so that a reader sees the old content or the new one.

    Raises:
        OSError: if it can't be written; the old content is kept.
    """
    beside = "%s.%d.new" % (path, os.getpid())
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside)  # of a process that had this number before
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(beside, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise
