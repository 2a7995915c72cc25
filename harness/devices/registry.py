"""devices.toml → :class:`Registry`: the devices that a run can use."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tomlkit
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from harness import toml_file
from harness.errors import RegistryError, SelectionError
from harness.study import Seconds
from harness.variants import Name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LOCAL = "local"
HERE = Path("devices.toml")
MADE = "# The devices that runs can use; docs/devices.md tells every key.\n"


UNITS = {"": 1, "B": 1, "KB": 1000, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def size(value: object) -> object:
    """Read a size in bytes, such as ``4GB`` or ``512 MiB``; numbers pass.

    Raises:
        ValueError: if it is none.
    """
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?i?B?)", value.strip(), re.IGNORECASE)
    if found is None or found[2].upper() not in UNITS:
        message = f'\'{value}\' is no size: write it as "4GB" or "512MiB"'
        raise ValueError(message)
    return int(float(found[1]) * UNITS[found[2].upper()])


def _enough(value: int) -> int:
    """Refuse what nothing fits in."""
    if value < 2**20:
        message = f"{value} bytes are too few for anything: 1 MiB is the least"
        raise ValueError(message)
    return value


def _a_second(value: float) -> float:
    """Refuse a silence that any busy board keeps."""
    if value < 1:
        message = f"{value:g} s is shorter than any busy device is silent: 1 s is the least"
        raise ValueError(message)
    return value


def _a_version(value: str) -> str:
    """Refuse what pip would not take for one release."""
    if not re.fullmatch(r"\d+(\.\d+){1,3}", value):
        message = f"'{value}' is no version of onnxruntime: write it as \"1.23.2\""
        raise ValueError(message)
    return value


Size = Annotated[int, BeforeValidator(size), AfterValidator(_enough)]
Silence = Annotated[Seconds, AfterValidator(_a_second)]
Version = Annotated[str, AfterValidator(_a_version)]


class Device(BaseModel):
    """One entry of devices.toml.

    Attributes:
        python: the Python that runs the agent and the runner there; for ``local`` this process's own.
        runtimes: versions of onnxruntime that are measured side by side; none means the one that its Python has, or was given.
        governor: the frequency governor that jobs may set for as long as they run; None leaves it alone.
        emulated: what kind of emulation its owner says it is; None on real hardware.
        quota: bytes that the store there may take up; None is as many as fit.
        memory: bytes of data that a worker there may take; None is as much as there is.
        connect_time: seconds until an address that does not answer is given up.
        silence_time: seconds of silence after which a connection counts as broken; None is 60, or 1800 if emulated.
        reconnect_time: seconds for which a device whose connection broke is looked for again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    transport: Literal["local", "ssh"] = "ssh"
    host: str | None = None
    user: str | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    identity_file: Path | None = None
    password_env: str | None = None
    host_key: str | None = None
    jump: str | None = None
    python: Annotated[str, Field(min_length=1)] | None = None
    tags: list[str] = []
    cpus: list[Annotated[int, Field(ge=0)]] | None = None
    runtimes: list[Version] = []
    governor: Annotated[str, Field(pattern="^[a-z_]{1,30}$")] | None = None
    emulated: Literal["icount", "wall", "user"] | None = None
    quota: Size | None = None
    memory: Size | None = None
    connect_time: Seconds = 10.0
    silence_time: Silence | None = None
    reconnect_time: Seconds = 60.0

    @model_validator(mode="after")
    def _reachable(self) -> Device:
        if self.transport == "ssh" and not self.host:
            message = f'\'{self.name}\' has no host: give host = "NAME-OR-ADDRESS", or transport = "local" for this machine'
            raise ValueError(message)
        if self.host_key is not None and len(self.host_key.split()) < 2:  # noqa: PLR2004 - type and key
            message = 'host_key is a key type and a key, as in known_hosts: "ssh-ed25519 AAAA…"'
            raise ValueError(message)
        return self


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


def write_device(path: Path, device: Device) -> None:
    """Add a device to a devices.toml, which is made if need be; comments and order stay.

    Raises:
        RegistryError: if it has one of that name, or can't be read or written.
    """
    with _changing(path):
        table, text = toml_file.parse(path, RegistryError) if path.exists() else ({}, MADE)
        if device.name in table:
            message = f"{path}:{toml_file.line_of(text, (device.name,))}: there is a device '{device.name}' already"
            raise RegistryError(message)
        entry = tomlkit.table()
        for key, value in device.model_dump(mode="json", exclude={"name"}, exclude_defaults=True).items():
            entry.add(key, value)
        added = tomlkit.dumps({device.name: entry})
        _replace(path, f"{text.rstrip()}\n\n{added}" if text.strip() else added)


def remove_device(path: Path, name: str, **values: str) -> bool:
    """Take a device out of a devices.toml; comments before and after it stay. A file that we made and is empty then goes.

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
            _replace(path, rest)
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
    """Whether a TOML file says just this."""
    try:
        return tomllib.loads(text) == table
    except tomllib.TOMLDecodeError:
        return False


@contextlib.contextmanager
def _changing(path: Path) -> Iterator[None]:
    """Let others who change the file wait, and put what the system says in our words."""
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


def _replace(path: Path, text: str) -> None:
    """Write the file beside its place and rename it."""
    beside = path.with_name(path.name + ".new")
    beside.write_text(text, encoding="utf-8")
    if path.exists():
        shutil.copymode(path, beside)
    beside.replace(path)


def write_key(registry: Registry, name: str, **values: str) -> None:
    """Set keys of a device in devices.toml; comments and order stay.

    Raises:
        RegistryError: if there is no file, or it can't be written.
    """
    if registry.path is None:
        message = f"there is no devices.toml to write to; make one with a table [{name}]"
        raise RegistryError(message)
    with _changing(registry.path):
        document = tomlkit.parse(registry.path.read_text(encoding="utf-8"))
        table = document[name]
        for key, value in values.items():
            table[key] = value
        _replace(registry.path, tomlkit.dumps(document))
