"""What decides which wheels fit a device: reported by its agent, and checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import DeviceError, RunnerError

STEP = "provision"
ARCHITECTURES = ("x86_64", "aarch64")
OLDEST_PYTHON = (3, 9)
OLDEST_GLIBC = 17

# Messages quote them: nothing that a terminal obeys.
Word = Annotated[str, Field(pattern=r"^[\w.+ -]{0,100}$")]
Said = TypeVar("Said", bound=BaseModel)


class Machine(BaseModel):
    """What a device's Python reports about itself and its system.

    Attributes:
        bits: of a pointer; a 64-bit kernel can run a 32-bit system.
        libc: "glibc 2.36", "musl" or empty.
        abi: as wheels name it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    arch: Word
    bits: int
    libc: Word
    implementation: Word
    python: Annotated[list[Annotated[int, Field(ge=0, le=999)]], Field(min_length=3, max_length=3)]
    abi: Annotated[str, Field(pattern=r"^cp\d{2,5}[a-z]{0,2}$")]


@dataclass(frozen=True)
class Target:
    """What wheels have to fit.

    Attributes:
        python: as in "3.11".
        abi: as in "cp311"; "cp313t" without the global lock.
        glibc: the minor version, as 36 in 2.36.
    """

    arch: str
    python: str
    abi: str
    glibc: int

    def __str__(self) -> str:
        return f"{self.arch}, Python {self.python}{'t' if self.abi.endswith('t') else ''}, glibc 2.{self.glibc}"

    def tags(self) -> list[str]:
        """All platform tags that run there, the newest first: pip does not add the older ones by itself."""
        numbered = [f"manylinux_2_{minor}_{self.arch}" for minor in range(self.glibc, OLDEST_GLIBC - 1, -1)]
        return [*numbered, f"manylinux2014_{self.arch}"]

    def options(self) -> list[str]:
        """The same as pip's options."""
        platforms = [word for tag in self.tags() for word in ("--platform", tag)]
        abis = ["--abi", self.abi, "--abi", "none"] if self.abi.endswith("t") else []
        return ["--only-binary=:all:", *platforms, "--implementation", "cp", "--python-version", self.python, *abis]


def fitting(machine: Machine, device: str) -> Target:
    """Say what wheels have to fit on a device.

    Raises:
        DeviceError: if there are none for its kind; the message says what it needs.
    """
    python = ".".join(map(str, machine.python))
    libc = re.fullmatch(r"glibc 2\.(\d{1,3})", machine.libc)
    refusal = None
    if machine.arch not in ARCHITECTURES:
        refusal = f"there is no onnxruntime wheel for {machine.arch}: it takes a 64-bit system, {' or '.join(ARCHITECTURES)}"
    elif machine.bits != 64:  # noqa: PLR2004 - bits
        refusal = f"its Python is a {machine.bits}-bit one, for which there is no onnxruntime wheel: install a 64-bit system"
    elif machine.implementation != "cpython":
        refusal = f"its Python is {machine.implementation}; onnxruntime's wheels need CPython"
    elif tuple(machine.python[:2]) < OLDEST_PYTHON:
        refusal = (
            f'its Python is {python}; 3.9 or newer is needed: install one and set python = "…" for [{device}] in devices.toml'
        )
    elif libc is None:
        refusal = (
            f"its C library is {machine.libc or 'unknown'}; onnxruntime's wheels need glibc, as Debian, Ubuntu and Fedora have it"
        )
    elif int(libc[1]) < OLDEST_GLIBC:
        refusal = f"its C library is {machine.libc}; onnxruntime's wheels need glibc 2.{OLDEST_GLIBC} or newer"
    if refusal is not None or libc is None:
        raise DeviceError(device, STEP, refusal or "")
    return Target(machine.arch, ".".join(map(str, machine.python[:2])), machine.abi, int(libc[1]))


def checked(kind: type[Said], said: object, device: str) -> Said:
    """Check what a device answered.

    Raises:
        RunnerError: if it is not of the protocol's shape.
    """
    try:
        return kind.model_validate(said)
    except ValidationError as exc:
        first = exc.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RunnerError(device, STEP, f"its answer does not follow the protocol: {place}: {first['msg']}") from exc
