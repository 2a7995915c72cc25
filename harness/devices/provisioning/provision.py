"""Installs a runtime on a device without internet or pip: wheels are downloaded here, uploaded once, unpacked and tried there."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from importlib.metadata import version as installed
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from harness.devices.link import Link
from harness.devices.provisioning import wheels
from harness.devices.provisioning.machine import STEP, Machine, Word, checked, fitting
from harness.devices.provisioning.wheels import NoWheelError, Wheel
from harness.errors import DeviceError, RunnerError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from harness.devices.device import Device
    from harness.devices.provisioning.machine import Target

# Tried one after the other where a newer one dies at import, as on cores whose instructions it takes for granted: the last release
# of each kind of build, and the last for each Python that is no longer built for.
OLDER = ("1.31.1", "1.30.0", "1.27.0", "1.24.4", "1.23.2", "1.20.1", "1.19.2")

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Adopted(BaseModel):
    """A runtime that could be imported."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    runtime: Hash
    onnxruntime: Word
    numpy: Word


class Unusable(BaseModel):
    """A runtime that could not, and how its import ended."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    message: Annotated[str, Field(max_length=3000), AfterValidator(lambda text: "".join(filter(str.isprintable, text)))]


@dataclass(frozen=True)
class Tried:
    """A version of onnxruntime that does not run on the device."""

    version: str
    message: str


@dataclass(frozen=True)
class Provisioned:
    """The runtime that a device uses from now on.

    Attributes:
        runtime: the hash over its wheels.
        tried: versions that were brought before and don't run there.
    """

    device: str
    target: str
    runtime: str
    onnxruntime: str
    numpy: str
    tried: tuple[Tried, ...]
    sent_bytes: int
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return {**vars(self), "tried": [vars(tried) for tried in self.tried]}


def provision(
    device: Device,
    version: str | None = None,
    wheelhouse: Path | None = None,
    report: Callable[[str], None] = lambda _line: None,
) -> Provisioned:
    """Install onnxruntime and numpy on a device.

    Args:
        device: the one to bring them to.
        version: onnxruntime's; None takes this machine's own where it fits, else the newest that does, and an older one where
            that one does not run.
        wheelhouse: a folder to take wheels from; None lets pip download them as it is configured here.
        report: gets a line of text for each step.

    Raises:
        DeviceError: if nothing fits or runs there; the message says what is needed.
        UsageError: if what was asked for can't be.
    """
    if version is not None and not wheels.VERSION.fullmatch(version):
        message = f"'{version}' is not a version: write it as 1.31.1"
        raise UsageError(message)
    if wheelhouse is not None and not wheelhouse.is_dir():
        message = f"{wheelhouse}: no such folder"
        raise UsageError(message)
    link = Link(device)
    try:
        return bring(link, version, wheelhouse, report)
    finally:
        link.close()


def bring(
    link: Link,
    version: str | None = None,
    wheelhouse: Path | None = None,
    report: Callable[[str], None] = lambda _line: None,
) -> Provisioned:
    """As :func:`provision`, over an open connection."""
    begun = time.monotonic()
    device = link.device
    target = fitting(checked(Machine, link.machine(), device.name), device.name)
    report(str(target))
    sent = 0
    tried: list[Tried] = []
    for found in candidates(target, version, wheelhouse, device.name):
        sent += _push(link, found, report)
        answer = _try(link, found)
        if isinstance(answer, Adopted):
            return Provisioned(
                device.name, str(target), answer.runtime, answer.onnxruntime, answer.numpy, tuple(tried), sent,
                round(time.monotonic() - begun, 3),
            )  # fmt: skip
        tried.append(Tried(found[0].version, answer.message))
        report(f"onnxruntime {found[0].version} does not run on the device: {answer.message}")
    told = "; ".join(f"{one.version}: {one.message}" for one in tried)
    raise DeviceError(
        device.name, STEP, f"none of the tried versions of onnxruntime runs on it ({told}); try another: --runtime VERSION"
    )


def beside(link: Link, versions: Sequence[str]) -> dict[str, str]:
    """Install several versions on a device, in addition to the one that its Python uses.

    Returns:
        The runtime's hash, by version.

    Raises:
        DeviceError: if one does not fit or does not run there.
    """
    target = fitting(checked(Machine, link.machine(), link.device.name), link.device.name)
    brought: dict[str, str] = {}
    for version in versions:
        (found,) = candidates(target, version, None, link.device.name)
        _push(link, found, lambda _line: None)
        answer = _try(link, found, "beside")
        if isinstance(answer, Unusable):
            reason = f"onnxruntime {version} does not run on it ({answer.message}): remove it from runtimes in devices.toml"
            raise DeviceError(link.device.name, STEP, reason)
        brought[version] = answer.runtime
    return brought


def candidates(target: Target, version: str | None, wheelhouse: Path | None, device: str) -> Iterator[tuple[Wheel, ...]]:
    """Yield sets of wheels to try: the one asked for alone, or the best one and then older ones.

    Raises:
        DeviceError: if none fits.
    """
    wanted = version or installed("onnxruntime")
    try:
        first = wheels.fetch(target, wanted, wheelhouse)
    except NoWheelError as exc:
        if version is not None or not exc.known:
            raise DeviceError(device, STEP, _none_fits(target, wanted, wheelhouse, exc)) from exc
        try:
            first = wheels.fetch(target, None, wheelhouse)
        except NoWheelError as other:
            raise DeviceError(device, STEP, _none_fits(target, "", wheelhouse, other)) from other
    yield first
    for older in OLDER if version is None else ():
        if wheels.number(older) < wheels.number(first[0].version):
            try:
                found = wheels.fetch(target, older, wheelhouse)
            except NoWheelError:
                continue
            yield found


def _none_fits(target: Target, version: str, wheelhouse: Path | None, why: NoWheelError) -> str:
    """The message that nothing fits: what was wanted, where, and what there is."""
    tags = target.tags()
    where = f"in {wheelhouse}" if wheelhouse else "in pip's package index"
    reason = f"no onnxruntime {version} {where} fits {target} ({tags[0]} … {tags[-1]}); {why}".replace("  ", " ")
    if not why.known and wheelhouse is None:
        reason += ". If this machine has no internet: download the wheels elsewhere and give --wheelhouse DIR"
    return reason


def _push(link: Link, found: tuple[Wheel, ...], report: Callable[[str], None]) -> int:
    """Upload wheels to the device's store."""
    begun = time.monotonic()
    sent = link.push({wheel.sha256: wheel.path for wheel in found})
    names = ", ".join(f"{wheel.name} {wheel.version}" for wheel in found)
    report(f"{names}: {sent / 1e6:.1f} MB sent in {time.monotonic() - begun:.1f} s")
    return sent


def _try(link: Link, found: tuple[Wheel, ...], use: Literal["always", "beside"] = "always") -> Adopted | Unusable:
    """Unpack wheels and import them there."""
    expected = runtime_hash(wheel.sha256 for wheel in found)
    runtime = link.unpack({wheel.sha256: wheel.path.name for wheel in found})
    if runtime != expected:
        raise RunnerError(link.device.name, STEP, f"it unpacked another runtime than the requested one: {runtime:.80}")
    said = link.adopt(runtime, use)
    if said["event"] == "unusable":
        return checked(Unusable, said, link.device.name)
    answer = checked(Adopted, said, link.device.name)
    if answer.runtime != expected:
        raise RunnerError(link.device.name, STEP, f"it uses another runtime than the requested one: {answer.runtime}")
    return answer


def runtime_hash(hashes: Iterable[str]) -> str:
    """The name of the runtime that these wheels make, as the agent forms it too."""
    return hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()
