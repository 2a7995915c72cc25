"""Maps what paramiko and sockets raise to the error tree; nothing else knows their messages."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

import paramiko

from harness.devices.transports import connect_errors
from harness.devices.transports.silence import silence
from harness.devices.transports.watch import StalledError
from harness.errors import ConnectError, DeviceError, LostError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.devices.device import Device

# How long the answer to the opening of a channel may take, at least.
OPEN_SECONDS = 10.0
# Paramiko calls a link that was cut or fell silent during the login a refusal.
CUT_WORDS = re.compile(r"saw EOF|Authentication timeout")
NO_CHANNEL = "Timeout opening channel"


@contextlib.contextmanager
def mapped(device: Device, step: str) -> Iterator[None]:
    """Map the errors of the block.

    Raises:
        DeviceError: a member of its branch for whatever went wrong; errors of ours pass as they are.
    """
    try:
        yield
    except (EOFError, OSError, paramiko.SSHException) as exc:
        raise _error(exc, device, step) from exc


def _error(exc: Exception, device: Device, step: str) -> DeviceError:
    """The error for an exception of paramiko or a socket."""
    name, where = device.name, _where(device)
    lost: type[ConnectError | LostError] = ConnectError if step == "connect" else LostError
    if (reason := connect_errors.words(exc, device, where)) is not None:
        return lost(name, step, reason)
    match exc:
        case paramiko.AuthenticationException() if CUT_WORDS.search(str(exc)):
            # What the server refused, the login itself tells.
            reason = f"the connection to {where} was lost at the login ({exc}); if this happens every time, check user and identity_file"
            return lost(name, step, reason)
        case paramiko.ChannelException():
            advice = "does its sshd_config allow sessions (MaxSessions)? The log of its SSH server says why"
            return lost(name, step, f"{where} refuses to open a channel ({exc.text or 'no reason given'}): {advice}")
        case TimeoutError():
            waited = device.connect_time if step == "connect" else silence(device)
            if isinstance(exc, StalledError):
                waited = exc.seconds
            return lost(name, step, f"no answer from {where} within {waited:g} s")
    said = str(exc) or ("the other side closed it" if isinstance(exc, EOFError) else type(exc).__name__)
    if NO_CHANNEL in said:
        seconds = max(OPEN_SECONDS, device.connect_time)
        return lost(name, step, f"{where} did not answer within {seconds:g} s to a request for a channel")
    return lost(name, step, f"the connection to {where} broke: {said}")


def _where(device: Device) -> str:
    host = f"[{device.host}]" if ":" in str(device.host) else device.host
    return f"{host}:{device.port or paramiko.config.SSH_PORT}"
