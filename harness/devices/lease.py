"""Describes who holds a device, from what the holding job wrote about itself, which is untrusted input."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

from harness.devices import protocol

UNKNOWN = "it does not say whose"
MOST_WORDS = 500


def holder(said: str) -> str:
    """Say who holds a device and since when.

    Args:
        said: what the job tells of itself and what the device's kernel tells of it, as JSON (runners/PROTOCOL.md).
    """
    try:
        told = json.loads(said)
        words = _asked_by(told) if "user" in told else UNKNOWN
        words += _on_the_device(told)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError, RecursionError):
        return UNKNOWN
    return "".join(letter if letter.isprintable() else "?" for letter in words)[:MOST_WORDS]


def how_to_end(said: str, device: str) -> str:
    """Say how to end the job that holds a device: the device refuses that to every account but the job's own and root.

    Args:
        said: as in :func:`holder`.
        device: its name.
    """
    with contextlib.suppress(ValueError, RecursionError):
        told = json.loads(said)
        if isinstance(told, dict) and told.get("mine") is False:
            return "only its account on the device, or root there, can end it"
    return f"to end it: harness device release {device}"


def _asked_by(told: dict[str, Any]) -> str:
    """Describe the controller that started the job."""
    since = datetime.fromtimestamp(told["since"], UTC)
    name = f"{told['user']}@{told['host']}, process {told['pid']}{', ' + told['url'] if told.get('url') else ''}"
    version = (
        ""
        if told.get("protocol") == protocol.PROTOCOL
        else f", a job of {protocol.described(told)} (this harness speaks {protocol.PROTOCOL})"
    )
    return f"{name}, since {since:%Y-%m-%d %H:%M:%S} UTC by the device's clock{version}"


def _on_the_device(told: dict[str, Any]) -> str:
    """Describe the job and its account on the device."""
    words = f", job {told['job']}" if told.get("job") else ""
    if told.get("account") is not None:
        words += f", account {told['account']} on the device"
    if told.get("answers") is False:
        process = f"process {told['process']} there " if told.get("process") else "its process "
        words += f", {process}does not answer"
    return words
