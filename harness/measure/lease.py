"""Who holds a device: one job at a time, enforced there by the job itself (runners/job/lease.py)."""

from __future__ import annotations

import getpass
import json
import os
import secrets
import socket
from typing import TYPE_CHECKING

import harness
from harness.devices.lease import holder, how_to_end

if TYPE_CHECKING:
    from protocol import Who

# Tells this process from any other: containers may have the same host name and process number.
CONTROLLER = secrets.token_hex(8)


def busy_message(said: str, device: str, waited: float | None) -> str:
    """Say who holds a device, after so many seconds of waiting, and the next step."""
    still = f"after {waited:g} s another job is still" if waited else "another job is"
    return f"{still} using the device ({holder(said)}); {'wait longer' if waited else 'wait for it'} (--wait 10m); {how_to_end(said, device)}"


def is_ours(said: str) -> bool:
    """Whether this process started the holder, through another entry of devices.toml for the same machine."""
    try:
        return bool(json.loads(said)["controller"] == CONTROLLER)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def controller() -> Who:
    """This controller, for others who find the device busy."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return {
        "user": user,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "url": os.environ.get("BUILD_URL"),
        "harness": harness.__version__,
        "controller": CONTROLLER,
    }
