"""devices.toml → :class:`Registry`: the devices that a run can use."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from harness import paths
from harness.devices.blame import unforeseen
from harness.devices.device import Device, Origin
from harness.errors import RegistryError, SelectionError
from harness.study import toml_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LOCAL = "local"
HERE = Path("devices.toml")


@dataclass(frozen=True)
class WrongEntry:
    """An entry of devices.toml that is not a valid device.

    Attributes:
        name: the table's.
        fault: what is wrong, a line for each fault, with file and line.
        host: what it says, if that can be read; for lists of devices.
        tags: the same; ``@TAG`` means it too.
    """

    name: str
    fault: str
    host: str | None = None
    tags: tuple[str, ...] = ()


Entry = Device | WrongEntry


@dataclass(frozen=True)
class Registry:
    """The devices of one devices.toml; ``local`` is always among them.

    Attributes:
        path: the file, or None when only ``local`` is known.
        entries: by name, in the file's order; a wrong one costs only its own device.
        text: the file's.
    """

    path: Path | None
    entries: Mapping[str, Entry]
    text: str = ""

    @cached_property
    def devices(self) -> dict[str, Device]:
        """The valid entries, by name."""
        return {name: entry for name, entry in self.entries.items() if isinstance(entry, Device)}

    @property
    def wrong(self) -> tuple[WrongEntry, ...]:
        """The entries that are not valid."""
        return tuple(entry for entry in self.entries.values() if isinstance(entry, WrongEntry))

    @property
    def tags(self) -> tuple[str, ...]:
        """All tags, sorted."""
        return tuple(sorted({tag for entry in self.entries.values() for tag in entry.tags}))

    def where(self, *keys: str) -> str:
        """The place of a key, for messages: ``devices.toml:7``."""
        return Origin(self.path or HERE, self.text).where(*keys)

    def resolve(self, device: Device) -> Device:
        """Give a device, which need not be an entry, what the registry says about how it is reached.

        Raises:
            RegistryError: if its jump host is no other device, has a wrong entry, or leads back to the device.
        """
        return self._resolved(device, (), tuple(each for each in self.devices.values() if each.host_key))

    def _resolved(self, device: Device, above: tuple[str, ...], pinned: tuple[Device, ...]) -> Device:
        """As :meth:`resolve`, for a device through which those above are reached."""
        jump = None if device.jump is None else self._resolved(self._jump(device, above), (*above, device.name), pinned)
        return device.read_from(Origin(self.path or HERE, self.text, jump, pinned))

    def _jump(self, device: Device, above: tuple[str, ...]) -> Device:
        """The device to go through."""
        found = self.entries.get(device.jump or "")
        place = f"{self.where(device.name, 'jump')}: '{device.name}.jump'"
        if isinstance(found, WrongEntry):
            message = f"{place}: the entry of '{found.name}' is wrong:\n{found.fault}"
            raise RegistryError(message)
        if found is None or found.name == device.name or found.transport != "ssh":
            message = f"{place}: '{device.jump}' is not another device in the file; give the jump host a table of its own"
            raise RegistryError(message)
        if found.name in above:
            circle = " → ".join([*above[above.index(found.name) :], device.name, found.name])
            message = f"{place} goes in a circle: {circle}"
            raise RegistryError(message)
        return found

    def get(self, name: str) -> Device:
        """Find one device.

        Raises:
            SelectionError: if there is none of that name.
            RegistryError: if its entry is wrong.
        """
        found = self._entry(name)
        if isinstance(found, WrongEntry):
            raise RegistryError(found.fault)
        return found

    def select(self, selectors: Sequence[str]) -> tuple[Device, ...]:
        """Find devices by name and by ``@tag``, each once, in the registry's order.

        Raises:
            SelectionError: if a selector matches nothing.
            RegistryError: if entries that match are wrong; it names them all.
        """
        chosen = self.choose(selectors)
        if wrong := [entry.fault for entry in chosen if isinstance(entry, WrongEntry)]:
            raise RegistryError("\n".join(wrong))
        return tuple(entry for entry in chosen if isinstance(entry, Device))

    def choose(self, selectors: Sequence[str]) -> tuple[Entry, ...]:
        """As :meth:`select`, but including wrong entries.

        Raises:
            SelectionError: if a selector matches nothing.
        """
        chosen: set[str] = set()
        for selector in selectors:
            if not selector.startswith("@"):
                chosen.add(self._entry(selector).name)
                continue
            if selector == "@":
                message = (
                    f"'@' names no tag: write @TAG; {toml_file.nearest('', self.tags) if self.tags else 'no device has any tag'}"
                )
                raise SelectionError(message)
            tagged = {name for name, entry in self.entries.items() if selector[1:] in entry.tags}
            if not tagged:
                message = f"no device in {self.path or 'the registry'} has the tag '{selector[1:]}'; "
                raise SelectionError(message + (toml_file.nearest(selector[1:], self.tags) if self.tags else "none has any tag"))
            chosen |= tagged
        return tuple(entry for name, entry in self.entries.items() if name in chosen)

    def _entry(self, name: str) -> Entry:
        if name not in self.entries:
            hint = "" if self.path else "; there is no devices.toml in this folder; to use one elsewhere: --registry FILE"
            message = f"no device '{name}' in {self.path or 'the registry'}; {toml_file.nearest(name, list(self.entries))}{hint}"
            raise SelectionError(message)
        return self.entries[name]


def locate(path: Path | None) -> Path | None:
    """Find the devices.toml to use: the one given, $HARNESS_DEVICES, ./devices.toml, the user's own, or none."""
    if path is None and os.environ.get("HARNESS_DEVICES"):
        path = Path(os.environ["HARNESS_DEVICES"])
    if path is not None:
        return path
    home = paths.home()
    own = [home / ".config" / "quant-harness" / "devices.toml"] if home is not None else []
    return next((found for found in (HERE, *own) if found.is_file()), None)


def load(path: Path | None = None) -> Registry:
    """Read the registry; an entry with an unknown key or a wrong value is a :class:`WrongEntry` in it.

    Args:
        path: the file; None looks where :func:`locate` says.

    Raises:
        RegistryError: if the file can't be read or is not TOML.
    """
    file = locate(path)
    table, text = toml_file.parse(file, RegistryError) if file else ({}, "")
    read = Registry(file, {name: _entry(name, said, file or HERE, text) for name, said in {LOCAL: {}, **table}.items()}, text)
    return replace(read, entries={name: _resolved(entry, read) for name, entry in read.entries.items()})


def _resolved(entry: Entry, registry: Registry) -> Entry:
    """An entry with its jump host; it is wrong if that can't be found."""
    if isinstance(entry, WrongEntry):
        return entry
    try:
        return registry.resolve(entry)
    except RegistryError as exc:
        return WrongEntry(entry.name, str(exc), entry.host, tuple(entry.tags))


def _entry(name: str, said: object, file: Path, text: str) -> Entry:
    """Check one entry; what is wrong with it is said with its line."""
    line = toml_file.line_of(text, (name,))
    place = f"{file}:{line}" if line else f"{file}"
    if not isinstance(said, dict):
        return WrongEntry(name, f"{place}: '{name}' is not a device: write it as a table, [{name}]")
    transport = {"transport": "local"} if name == LOCAL else {}
    try:
        return Device.model_validate({**transport, **said, "name": name})
    except ValidationError as exc:
        fault = toml_file.faults(Device, exc, file, text, above=(name,))
    except Exception as exc:  # noqa: BLE001 - a wrong entry must not cost the others, whatever is wrong
        fault = f"{place}: '{name}': {unforeseen(exc)}"
    host, tags = said.get("host"), said.get("tags")
    shown = tuple(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else ()
    return WrongEntry(name, fault, host if isinstance(host, str) else None, shown)
