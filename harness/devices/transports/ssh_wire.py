"""SSH's data types (RFC 4251, section 5), read strictly; paramiko's own reader returns zeros for missing bytes."""

from __future__ import annotations

import struct


class Reader:
    """Reads fields one after another.

    Args:
        data: what is read.
    """

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def rest(self) -> int:
        """How many bytes are left."""
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        """The next bytes.

        Raises:
            ValueError: if there are fewer.
        """
        if size > self.rest:
            message = f"it ends in the middle of a field ({size} bytes wanted, {self.rest} there)"
            raise ValueError(message)
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self) -> int:
        """A uint32."""
        return int(struct.unpack(">I", self.take(4))[0])

    def long_number(self) -> int:
        """A uint64."""
        return int(struct.unpack(">Q", self.take(8))[0])

    def string(self) -> bytes:
        """A string: its length, and as many bytes."""
        return self.take(self.number())

    def text(self) -> str:
        """A string for people, whatever its bytes are."""
        return self.string().decode(errors="replace")

    def end(self) -> None:
        """Say that nothing may follow.

        Raises:
            ValueError: if something does.
        """
        if self.rest:
            message = f"{self.rest} bytes too many"
            raise ValueError(message)


def string(data: bytes) -> bytes:
    """Write a string down."""
    return struct.pack(">I", len(data)) + data


def kind(blob: bytes) -> str:
    """The type that a public key or certificate begins with.

    Raises:
        ValueError: if it does not.
    """
    return Reader(blob).string().decode("ascii")
