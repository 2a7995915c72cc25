"""The kernel's initramfs format (cpio, 'newc'), as much of it as a board needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE, FOLDER = 0o100000, 0o040000
END = "TRAILER!!!"
ALIGN = 4
# The kernel reads one archive after the other, if each begins on a boundary of four bytes.
BLOCK = 512


def archive(files: Mapping[str, tuple[int, bytes]], folders: tuple[str, ...] = ()) -> bytes:
    """Pack files, all owned by root.

    Args:
        files: path without a leading slash → permissions and content; the folders above are made.
        folders: more folders, empty ones.
    """
    above = {part for path in (*files, *(f"{folder}/" for folder in folders)) for part in _parents(path)}
    out = bytearray()
    for number, path in enumerate(sorted(above), 1):
        out += _entry(path, FOLDER | 0o755, b"", number)
    for number, (path, (mode, content)) in enumerate(sorted(files.items()), len(above) + 1):
        out += _entry(path, FILE | mode, content, number)
    out += _entry(END, 0, b"", 0)
    return bytes(out) + bytes(-len(out) % BLOCK)


def _parents(path: str) -> list[str]:
    """The folders above a path, outermost first."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: end + 1]) for end in range(len(parts))]


def _entry(path: str, mode: int, content: bytes, inode: int) -> bytes:
    """One header with its name and content, each padded."""
    name = path.encode() + b"\0"
    links = 2 if mode & FOLDER else 1
    fields = (inode, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return head + bytes(-len(head) % ALIGN) + content + bytes(-len(content) % ALIGN)
