"""Small files, as the kernel has them in /proc and /sys."""

from __future__ import annotations

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
