"""Who holds a device: one job at a time, enforced there by the job itself (runners/job/lease.py)."""

from __future__ import annotations

import getpass
import os
import socket

from harness.devices.lease import holder


def told(said: str, device: str, waited: float | None) -> str:
    """Say who holds a device, after so many seconds of waiting; what it wrote is input."""
    still = f"after {waited:g} s another job is still" if waited else "another job is"
    return f"{still} being measured there ({holder(said)}); {'wait longer' if waited else 'wait for it'} (--wait 10m), or end it: harness device release {device}"


def who() -> dict[str, object]:
    """Who asks, for those who find the device busy."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return {"user": user, "host": socket.gethostname(), "pid": os.getpid(), "url": os.environ.get("BUILD_URL")}
