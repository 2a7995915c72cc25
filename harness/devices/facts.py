"""What a device reports about itself. It comes from the device, so every field is checked and bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import EntryError, RunnerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.devices.device import Device

Text = Annotated[str, Field(max_length=500)]
Word = Annotated[str, Field(max_length=100)]


class _Said(BaseModel):
    # A newer runner may say more; what we don't know is left out.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Frequencies(_Said):
    """Of core 0, in kHz."""

    min: int | None = None
    max: int | None = None
    current: int | None = None


class Runtime(_Said):
    """The device's onnxruntime, or why there is none."""

    version: Word | None = None
    providers: Annotated[list[Word], Field(max_length=50)] = []
    error: Annotated[str, Field(max_length=3000)] | None = None


class Emulation(_Said):
    """Who emulates the processor."""

    by: Word
    evidence: Text


class CoreKind(_Said):
    """Cores that are alike; a big.LITTLE processor has several kinds."""

    capacity: int | None = None
    max_khz: int | None = None
    cpus: Annotated[list[int], Field(max_length=4096)]


class Facts(_Said):
    """A device when it was probed; None means that the value can't be read there.

    Attributes:
        runtime: the start of the provisioned runtime's hash; None if its Python has an onnxruntime of its own, or none.
        uncountable: why its kernel can't count instructions; None when it can.
        holder: what the job that holds the device wrote about itself, as JSON; None when it is free.
        cpus: the cores that a process there can be pinned to; empty if it does not say.
        runtimes: versions of onnxruntime that were brought there, side by side.
    """

    arch: Word
    cpu_model: Text | None = None
    features: Annotated[list[Word], Field(max_length=2000)] = []
    cores: int
    cpus: Annotated[list[int], Field(max_length=4096)] = []
    governor: Word | None = None
    frequencies_khz: Frequencies = Frequencies()
    temperature_celsius: float | None = None
    memory_bytes: int | None = None
    libc: Text | None = None
    kernel: Text | None = None
    board: Text | None = None
    python: Word
    executable: Text | None = None
    numpy: Word | None = None
    onnxruntime: Runtime
    runtime: Word | None = None
    emulated: Emulation | None = None
    uncountable: Text | None = "its runner does not report it"
    core_kinds: Annotated[list[CoreKind], Field(max_length=64)] = []
    holder: Annotated[str, Field(max_length=2000)] | None = None
    runtimes: Annotated[list[Word], Field(max_length=100)] = []


# What decides how fast int8 runs, the strongest first: as /proc/cpuinfo names it, and for people.
TELLING = {
    "amx_int8": "amx-int8", "avx512_vnni": "avx512-vnni", "avx_vnni": "avx-vnni", "avx512f": "avx512", "avx2": "avx2",
    "i8mm": "i8mm", "asimddp": "dotprod", "bf16": "bf16", "avx512_bf16": "avx512-bf16", "sve2": "sve2", "sve": "sve", "asimdhp": "fp16",
}  # fmt: skip
IMPLIED = {"avx512-vnni": {"avx512", "avx2"}, "avx512": {"avx2"}, "avx-vnni": {"avx2"}, "sve2": {"sve"}}


def telling(facts: Facts) -> str:
    """The processor's features that matter for int8, in a few words; what another one implies is left out."""
    found = [words for name, words in TELLING.items() if name in facts.features]
    implied = {words for each in found for words in IMPLIED.get(each, ())}
    return " ".join(each for each in found if each not in implied)


def check(said: object, device: str) -> Facts:
    """Check what a probe answered.

    Raises:
        RunnerError: if it is not of the protocol's shape.
    """
    try:
        return Facts.model_validate(said)
    except ValidationError as exc:
        first = exc.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RunnerError(device, "probe", f"its facts do not follow the protocol: {place}: {first['msg']}") from exc


def fitting(said: object, device: Device) -> Facts:
    """Check what a probe answered, and that the entry in devices.toml fits it.

    Raises:
        RunnerError: if the answer is not of the protocol's shape.
        EntryError: if the entry names cores that are not there.
    """
    facts = check(said, device.name)
    lacking = sorted(set(device.cpus or ()) - set(facts.cpus))
    if facts.cpus and lacking:
        asked = f"cpus of [{device.name}] in devices.toml names {spans(lacking)}, but a job there can use only {spans(facts.cpus)}: correct cpus"
        raise EntryError(device.name, "cpus", asked)
    return facts


def spans(cores: Sequence[int]) -> str:
    """Core numbers as ranges, such as ``cores 0-3 and 8``."""
    found: list[list[int]] = []
    for core in sorted(cores):
        if found and core == found[-1][1] + 1:
            found[-1][1] = core
        else:
            found.append([core, core])
    words = [str(first) if first == last else f"{first}-{last}" for first, last in found]
    return f"core{'s' if len(cores) > 1 else ''} {' and '.join(filter(None, [', '.join(words[:-1]), words[-1]]))}"


def usable(facts: Facts, device: str, python: str, providers: list[str]) -> None:
    """Refuse a device whose onnxruntime can't do what is asked.

    Raises:
        RunnerError: with the next step.
    """
    if facts.onnxruntime.version is None:
        reason = (
            f"{python} on the device can't import onnxruntime ({facts.onnxruntime.error}); to install it: harness device provision {device}; "
            f'or set python = "…" for [{device}] in devices.toml to one that has onnxruntime and numpy'
        )
        raise RunnerError(device, "probe", reason)
    lacking = [name for name in providers if name not in facts.onnxruntime.providers]
    if lacking:
        has = ", ".join(facts.onnxruntime.providers)
        raise RunnerError(
            device, "probe", f"its onnxruntime {facts.onnxruntime.version} has no {', '.join(lacking)}; it has {has}"
        )
