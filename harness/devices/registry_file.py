"""Adds, changes and removes entries of devices.toml, and keeps its comments and order."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tomllib
from typing import TYPE_CHECKING, Any

import tomlkit

from harness import files
from harness.errors import RegistryError
from harness.study import toml_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.devices.device import Device
    from harness.devices.registry import Registry

MADE = "# The devices that runs can use; docs/devices.md tells every key.\n"


def write_device(path: Path, device: Device) -> None:
    """Add a device to a devices.toml, which is created if it does not exist; comments and order stay.

    Raises:
        RegistryError: if it has one of that name, or can't be read or written.
    """
    with _changing(path):
        table, text = toml_file.parse(path, RegistryError) if path.exists() else ({}, MADE)
        if device.name in table:
            message = f"{path}:{toml_file.line_of(text, (device.name,))}: there is already a device '{device.name}'; choose another name, or edit that entry"
            raise RegistryError(message)
        entry = tomlkit.table()
        for key, value in device.model_dump(mode="json", exclude={"name"}, exclude_defaults=True).items():
            entry.add(key, value)
        added = tomlkit.dumps({device.name: entry})
        files.write_text(path, f"{text.rstrip()}\n\n{added}" if text.strip() else added)


def remove_device(path: Path, name: str, **values: str) -> bool:
    """Remove a device from a devices.toml; comments before and after it stay. A file that :func:`write_device` made and that is empty then is deleted.

    Args:
        path: the file.
        name: of the device.
        values: what its entry must say to be the one meant.

    Returns:
        Whether there was such an entry.

    Raises:
        RegistryError: if the file can't be read or written.
    """
    with _changing(path):
        if not path.exists():
            return False
        table, text = toml_file.parse(path, RegistryError)
        entry = table.get(name)
        if not isinstance(entry, dict) or any(entry.get(key) != value for key, value in values.items()):
            return False
        rest = _without(text, name)
        if not _says(rest, {key: value for key, value in table.items() if key != name}):
            document = tomlkit.parse(text)
            document.remove(name)
            rest = tomlkit.dumps(document)
        if rest.strip() in {"", MADE.strip()}:
            path.unlink()
        else:
            files.write_text(path, rest)
        return True


def _without(text: str, name: str) -> str:
    """Cut a table's header and keys out of a TOML file, with the blank lines before; comments that follow are the next table's."""
    lines = text.splitlines(keepends=True)
    headers = [number for number, line in enumerate(lines) if line.lstrip().startswith("[")]
    start = next((number for number in headers if lines[number].strip().strip("[] \"'") == name), None)
    if start is None:
        return text
    end = next((number for number in headers if number > start), len(lines))
    while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1
    while start > 0 and not lines[start - 1].strip():
        start -= 1
    return "".join(lines[:start] + lines[end:])


def _says(text: str, table: dict[str, Any]) -> bool:
    """Whether a TOML file parses to this table."""
    try:
        return tomllib.loads(text) == table
    except tomllib.TOMLDecodeError:
        return False


@contextlib.contextmanager
def _changing(path: Path) -> Iterator[None]:
    """Lock the folder of the file, so that others who change it wait, and turn an OSError into a RegistryError."""
    try:
        folder = os.open(path.absolute().parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)
    except OSError as exc:
        message = f"{path}: can't be written: {exc.strerror}"
        raise RegistryError(message) from exc


def write_key(registry: Registry, name: str, **values: str) -> None:
    """Set keys of a device in devices.toml; comments and order stay.

    Raises:
        RegistryError: if there is no file, or it can't be written.
    """
    if registry.path is None:
        message = f"there is no devices.toml to write to; create one with a table [{name}]"
        raise RegistryError(message)
    with _changing(registry.path):
        document = tomlkit.parse(registry.path.read_text(encoding="utf-8"))
        table = document[name]
        for key, value in values.items():
            table[key] = value
        files.write_text(registry.path, tomlkit.dumps(document))
