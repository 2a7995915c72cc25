"""One entry of devices.toml: :class:`Device`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, model_validator

from harness.devices.transport_registry import TRANSPORTS
from harness.study import toml_file
from harness.study.keys import Name
from harness.study.study import Seconds

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
        message = f'\'{value}\' is not a size: write it as "4GB" or "512MiB"'
        raise ValueError(message)
    try:
        return int(float(found[1]) * UNITS[found[2].upper()])
    except OverflowError:
        message = f"'{value:.30}…' is too large a number of bytes"
        raise ValueError(message) from None


def _enough(value: int) -> int:
    """Refuse a size that no model fits in."""
    if value < 2**20:
        message = f"{value} bytes is too small: the smallest value is 1 MiB"
        raise ValueError(message)
    return value


def _a_second(value: float) -> float:
    """Refuse a time for which every busy board is silent now and then."""
    if value < 1:
        message = f"{value:g} s is too short, because a busy device can be silent for that long: the smallest value is 1 s"
        raise ValueError(message)
    return value


def _a_version(value: str) -> str:
    """Refuse what is not the version of a release."""
    if not re.fullmatch(r"\d+(\.\d+){1,3}", value):
        message = f"'{value}' is not a version of onnxruntime: write it as \"1.23.2\""
        raise ValueError(message)
    return value


def _a_place(value: str) -> str:
    """Refuse what is not an absolute path or a path below the home directory."""
    if not value.startswith(("/", "~/")) or not value.isprintable() or ".." in value.split("/") or not value.strip("~/"):
        message = f'{value!r} is not a folder on the device: write it as "/data/bench", or "~/bench" in the account\'s home'
        raise ValueError(message)
    return value


def _a_line(value: str) -> str:
    """Refuse control characters."""
    if not value.isprintable():
        message = f"{value!r} has a control character: remove it"
        raise ValueError(message)
    return value


def _a_command(value: str) -> str:
    """Refuse the zero character, which no command line can hold; other characters are quoted."""
    if "\0" in value:
        message = f"{value!r} has a zero character: remove it"
        raise ValueError(message)
    return value


def _a_transport(value: str) -> str:
    """Refuse a transport that is not registered."""
    if value not in TRANSPORTS:
        message = f"there is no transport '{value}'; {toml_file.nearest(value, list(TRANSPORTS))}"
        raise ValueError(message)
    return value


def _a_path(value: object) -> object:
    """Refuse an empty path, which pathlib would read as the working folder."""
    if isinstance(value, str):
        if not value:
            message = "it is empty: name a file, or remove the key"
            raise ValueError(message)
        return _a_line(value)
    return value


def _cores(value: list[int]) -> list[int]:
    """Refuse an empty list of cores, and one that has a core twice."""
    if not value:
        message = "the list is empty: name at least one core, or remove the key"
        raise ValueError(message)
    if twice := sorted({core for core in value if value.count(core) > 1}):
        message = f"it names core {', '.join(map(str, twice))} more than once: name each core once"
        raise ValueError(message)
    return value


Size = Annotated[int, BeforeValidator(size), AfterValidator(_enough)]
Silence = Annotated[Seconds, AfterValidator(_a_second)]
Version = Annotated[str, AfterValidator(_a_version)]
Line = Annotated[str, AfterValidator(_a_line)]
Word = Annotated[str, Field(min_length=1), AfterValidator(_a_line)]
Place = Annotated[str, AfterValidator(_a_place)]


# Keys that a local device does not have.
OVER_SSH = ("host", "user", "port", "identity_file", "password_env", "host_key", "jump")


@dataclass(frozen=True)
class Origin:
    """Where an entry was read, and which other entries of that file are needed to reach the device. Devices are compared without it.

    Attributes:
        path: the devices.toml.
        text: its content.
        jump: the device that ``jump`` names.
        pinned: the file's devices that state a host key; a host that ssh_config names on the way may be one of them.
    """

    path: Path = field(default=Path("devices.toml"), compare=False)
    text: str = field(default="", compare=False, repr=False)
    jump: Device | None = field(default=None, compare=False)
    pinned: tuple[Device, ...] = field(default=(), compare=False, repr=False)

    def where(self, *keys: str) -> str:
        """The place of a key, for messages: ``devices.toml:7``."""
        line = toml_file.line_of(self.text, keys)
        return f"{self.path}:{line}" if line else f"{self.path}"


class Device(BaseModel):
    """One entry of devices.toml.

    Attributes:
        python: the Python that runs the agent and the runner there; for ``local`` this process's own.
        runtimes: versions of onnxruntime that are measured side by side; none means the one that its Python has, or was given.
        governor: the frequency governor that jobs may set for as long as they run; None leaves it alone.
        emulated: what kind of emulation its owner says it is; None on real hardware.
        store: where the device's store is; None is ~/.cache/quant-harness, or what QUANT_HARNESS_HOME says there.
        quota: bytes that the store there may take up; None is as many as fit.
        memory: bytes of data that a worker there may take; None is as much as there is.
        connect_time: seconds until an address that does not answer is given up.
        silence_time: seconds of silence after which a connection counts as broken; None is 60, or 1800 if emulated.
        reconnect_time: seconds for which a device whose connection broke is looked for again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    transport: Annotated[str, AfterValidator(_a_transport)] = "ssh"
    host: Line | None = None
    user: Word | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    identity_file: Annotated[Path, BeforeValidator(_a_path)] | None = None
    password_env: Word | None = None
    host_key: str | None = None
    jump: Word | None = None
    python: Annotated[str, Field(min_length=1), AfterValidator(_a_command)] | None = None
    tags: list[str] = []
    cpus: Annotated[list[Annotated[int, Field(ge=0)]], AfterValidator(_cores)] | None = None
    runtimes: list[Version] = []
    governor: Annotated[str, Field(pattern="^[a-z_]{1,30}$")] | None = None
    emulated: Literal["icount", "wall", "user"] | None = None
    store: Place | None = None
    quota: Size | None = None
    memory: Size | None = None
    connect_time: Seconds = 10.0
    silence_time: Silence | None = None
    reconnect_time: Seconds = 60.0

    _origin: Origin = PrivateAttr(default_factory=Origin)

    @property
    def origin(self) -> Origin:
        """Where the entry was read; empty for a device that was not read from a file."""
        return self._origin

    def read_from(self, origin: Origin) -> Device:
        """A copy of the device with another origin."""
        copy = self.model_copy()
        copy._origin = origin  # noqa: SLF001 - a copy of its own class
        return copy

    @model_validator(mode="after")
    def _reachable(self) -> Device:
        if self.transport == "ssh" and not self.host:
            message = f'\'{self.name}\' has no host: give host = "NAME-OR-ADDRESS", or transport = "local" for this machine'
            raise ValueError(message)
        foreign = [key for key in OVER_SSH if getattr(self, key) is not None]
        if self.transport == "local" and foreign:
            message = f'transport = "local" measures this machine, so {", ".join(foreign)} can\'t be set: remove one or the other'
            raise ValueError(message)
        if self.host_key is not None and len(self.host_key.split()) < 2:  # noqa: PLR2004 - type and key
            message = 'host_key is a key type and a key, as in known_hosts: "ssh-ed25519 AAAA…"'
            raise ValueError(message)
        return self
