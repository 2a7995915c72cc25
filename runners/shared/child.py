"""The processes that a program on a device starts: how they are isolated, and what can be read of their answer and their end."""

from __future__ import annotations

import contextlib
import json
import signal
import sys

# The module typing itself takes longer to import than most of what the agent uses.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MESSAGE_LIMIT = 2000
# A child is kept from the account's own files as its parent is: no user site, no sitecustomize, no PYTHON variables.
ISOLATED = ("-I", "-S") if sys.flags.isolated and sys.flags.no_site else ()


def ending(code: int, log: str) -> str:
    """Words for how a process ended: the last line of its standard error, and the signal that killed it, if one did."""
    last = ([line.strip() for line in log.splitlines() if line.strip()] or ["no message"])[-1]
    if code < 0:
        names = {sign.value: sign.name for sign in signal.Signals}
        last = "killed by %s; last words: %s" % (names.get(-code, "signal %d" % -code), last)
    return last[:MESSAGE_LIMIT]


def answer(out: str, key: str | None = None) -> dict[str, Any] | None:
    """What a process said: the last line of its output that is a JSON object, whatever else was printed; None if there is none.

    Args:
        out: its standard output.
        key: the object must have a text under this key.
    """
    for line in reversed(out.splitlines()):
        with contextlib.suppress(ValueError, RecursionError):
            said = json.loads(line)
            if isinstance(said, dict) and (key is None or isinstance(said.get(key), str)):
                return said
    return None


def unread(out: str) -> str:
    """Words for an output without an answer."""
    return "it sent something that is not in its protocol: %r" % out[:100]
