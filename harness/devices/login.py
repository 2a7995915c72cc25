"""What to log in with: what devices.toml names and nothing else, or else what ssh would try."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import paramiko

from harness.errors import AuthenticationError

if TYPE_CHECKING:
    from pathlib import Path

    from harness.devices.device import Device
    from harness.devices.registry import Registry
    from harness.devices.ssh_config import Route


def options(device: Device, route: Route, registry: Registry) -> dict[str, Any]:
    """Say it for paramiko.

    Raises:
        AuthenticationError: if the key or the password that devices.toml names is not there.
    """
    found: dict[str, Any] = {}
    if device.identity_file is not None:
        file = device.identity_file.expanduser()
        if not file.is_file():
            reason = f"identity_file {file}: no such file; correct it in {registry.path or 'devices.toml'}"
            raise AuthenticationError(device.name, "connect", reason)
        found |= {"key_filename": [str(file)]}
    if device.password_env is not None:
        if device.password_env not in os.environ:
            reason = f"the environment variable {device.password_env} (password_env) is not set"
            raise AuthenticationError(device.name, "connect", reason)
        found |= {"password": os.environ[device.password_env]}
    if found:
        return found | {"look_for_keys": False, "allow_agent": False}
    return {
        "key_filename": [str(file) for file in route.identities],
        "look_for_keys": not route.identities,
        # IdentitiesOnly keeps the agent's other keys away, but the agent may be what holds a named one.
        "allow_agent": route.agent and (not route.only or any(_locked(file) for file in route.identities)),
    }


def _locked(file: Path) -> bool:
    """Whether a private key has a passphrase."""
    try:
        paramiko.PKey.from_path(file)
    except (paramiko.PasswordRequiredException, TypeError):
        return True
    except Exception:  # noqa: BLE001 - whatever is wrong with it, the login says
        return False
    return False
