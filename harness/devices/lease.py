"""Who holds a device, in words: what the holding job wrote of itself is input."""

from __future__ import annotations

import json
from datetime import UTC, datetime

UNKNOWN = "it does not say whose"
MOST_WORDS = 500


def holder(said: str) -> str:
    """Say who holds a device and since when.

    Args:
        said: what the job wrote to its lease (runners/PROTOCOL.md).
    """
    try:
        told = json.loads(said)
        since = datetime.fromtimestamp(told["since"], UTC)
        name = f"{told['user']}@{told['host']}, process {told['pid']}{', ' + told['url'] if told.get('url') else ''}"
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError, RecursionError):
        return UNKNOWN
    words = f"{name}, since {since:%Y-%m-%d %H:%M:%S} UTC by the device's clock"
    return "".join(letter if letter.isprintable() else "?" for letter in words)[:MOST_WORDS]
