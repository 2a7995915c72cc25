"""devices.toml → :class:`Registry`: the devices that a run can use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from harness import toml_file
from harness.devices.device import Device
from harness.errors import RegistryError, SelectionError

if TYPE_CHECKING:
    from collections.abc import Sequence

LOCAL = "local"
HERE = Path("devices.toml")


@dataclass(frozen=True)
class Registry:
    """The devices of one devices.toml; ``local`` is always among them.

    Attributes:
        path: the file, or None when only ``local`` is known.
        devices: by name, in the file's order.
    """

    path: Path | None
    devices: dict[str, Device]

    def get(self, name: str) -> Device:
        """Find one device.

        Raises:
            SelectionError: if there is none of that name.
        """
        if name not in self.devices:
            hint = "" if self.path else "; there is no devices.toml in this folder: --registry FILE names one elsewhere"
            message = f"no device '{name}' in {self.path or 'the registry'}; {toml_file.nearest(name, list(self.devices))}{hint}"
            raise SelectionError(message)
        return self.devices[name]

    def select(self, selectors: Sequence[str]) -> tuple[Device, ...]:
        """Find devices by name and by ``@tag``, each once, in the registry's order.

        Raises:
            SelectionError: if a selector matches nothing.
        """
        chosen: set[str] = set()
        for selector in selectors:
            if not selector.startswith("@"):
                chosen.add(self.get(selector).name)
                continue
            tagged = {name for name, device in self.devices.items() if selector[1:] in device.tags}
            if not tagged:
                tags = sorted({tag for device in self.devices.values() for tag in device.tags})
                message = f"no device in {self.path or 'the registry'} has the tag '{selector[1:]}'; "
                raise SelectionError(message + (toml_file.nearest(selector[1:], tags) if tags else "none has any tag"))
            chosen |= tagged
        return tuple(device for name, device in self.devices.items() if name in chosen)


def locate(path: Path | None) -> Path | None:
    """Say which devices.toml counts: the one given, $HARNESS_DEVICES, ./devices.toml, the user's own, or none."""
    if path is None and os.environ.get("HARNESS_DEVICES"):
        path = Path(os.environ["HARNESS_DEVICES"])
    if path is not None:
        return path
    own = Path.home() / ".config" / "quant-harness" / "devices.toml"
    return next((found for found in (HERE, own) if found.is_file()), None)


def load(path: Path | None = None) -> Registry:
    """Read the registry.

    Args:
        path: the file; None looks where :func:`locate` says.

    Raises:
        RegistryError: if it can't be read or has an unknown key or a wrong value.
    """
    file = locate(path)
    table, text = toml_file.parse(file, RegistryError) if file else ({}, "")
    devices = {}
    for name, entry in {LOCAL: {}, **table}.items():
        if not isinstance(entry, dict):
            message = f"{file}:{toml_file.line_of(text, (name,))}: '{name}' is no device: write it as a table, [{name}]"
            raise RegistryError(message)
        transport = {"transport": "local"} if name == LOCAL else {}
        devices[name] = _device({**transport, **entry, "name": name}, file or HERE, text)
    return Registry(file, devices)


def _device(entry: dict[str, object], file: Path, text: str) -> Device:
    """Check one entry; a fault names its line."""
    try:
        return Device.model_validate(entry)
    except ValidationError as exc:
        name = str(entry["name"])
        wrapped = toml_file.faults(Device, exc, file, text, above=(name,))
    raise RegistryError(wrapped)
