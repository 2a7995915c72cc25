"""Who holds a device: one job at a time, enforced there by the job itself (runners/job.py)."""

from __future__ import annotations

import getpass
import json
import os
import socket
from datetime import UTC, datetime


def told(said: str, device: str) -> str:
    """Say who holds a device; what it wrote is input."""
    try:
        holder = json.loads(said)
        since = datetime.fromtimestamp(holder["since"], UTC)
        name = f"{holder['user']}@{holder['host']}, process {holder['pid']}{', ' + holder['url'] if holder.get('url') else ''}"
        words = f"{name}, since {since:%Y-%m-%d %H:%M:%S} UTC by the device's clock"
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError):
        words = "it does not say whose"
    return f"another job is being measured there ({words[:500]}); wait for it, or end it: harness device release {device}"


def who() -> dict[str, object]:
    """Who asks, for those who find the device busy."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return {"user": user, "host": socket.gethostname(), "pid": os.getpid(), "url": os.environ.get("BUILD_URL")}
