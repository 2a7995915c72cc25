"""What is measured: the cases, and which device measures which of them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from harness.study.study import Optimization

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.devices.device import Device
    from harness.quantize.recipe import Variant
    from harness.study.study import MeasureSection

# The platform of onnxruntime's own file format, by the machine's name; those of 32-bit ARM are many.
PLATFORMS = {"x86_64": "ort-amd64", "amd64": "ort-amd64", "aarch64": "ort-arm"}


class Inputs(BaseModel):
    """The evaluation inputs for one set of dimensions, as a file that a runner reads.

    Attributes:
        path: an .npz file with arrays ``arr_0``, ``arr_1``, … of shape [samples, …].
        names: the input that each array is for.
        dims: the symbolic dimensions' values.
    """

    model_config = ConfigDict(frozen=True)

    path: Path
    sha256: str
    names: tuple[str, ...]
    dims: dict[str, int]


class Case(BaseModel):
    """variant x session settings; the runtime is the device's.

    Attributes:
        id: the name on the wire, ``c0``, ``c1``, …
        name: what people read: the variant, and the settings that are not the same for all cases.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    variant: str
    threads: int
    provider: str
    dims: dict[str, int]
    optimization: Optimization = "all"
    runtime: str | None = None


@dataclass(frozen=True)
class Bar:
    """When a device has measured enough to decide the pairs of a gate.

    Attributes:
        limits: by device, the slowdowns that are allowed, as shares, for the pairs whose median is judged.
        level: of the interval that each look takes.
        first_look: the first look comes after so many processes.
        first_round: rounds are numbered from here: a second, independent set of processes follows the first.
    """

    limits: dict[str, dict[tuple[str, ...], float]]
    level: float
    first_look: int
    first_round: int = 0


def runtimes(devices: Sequence[Device]) -> tuple[str | None, ...]:
    """The versions of onnxruntime that any of the devices measures; None is what a device's Python has."""
    return tuple(dict.fromkeys(version for device in devices for version in _versions(device)))


def belongs(case: Case, device: Device) -> bool:
    """Whether a device measures a case: its runtime is one of the device's."""
    return case.runtime in _versions(device)


def misplaced(variant: Variant, arch: str) -> str | None:
    """Say why a device of an architecture can't measure a variant: a file in onnxruntime's format is for one platform. None if it can.

    Args:
        variant: any.
        arch: as ``uname -m`` tells it.
    """
    platform = variant.recipe.file_format
    if platform == "onnx" or platform == PLATFORMS.get(arch, "ort-arm" if arch.startswith("arm") else None):
        return None
    return f"the file was made for {platform.removeprefix('ort-')}, but this device is {arch}; files in onnxruntime's format fit only one architecture"


def _versions(device: Device) -> tuple[str | None, ...]:
    return tuple(device.runtimes) or (None,)


def cases(
    variants: Sequence[Variant],
    measure: MeasureSection,
    dims: Sequence[dict[str, int]],
    versions: Sequence[str | None] = (None,),
) -> tuple[Case, ...]:
    """Cross the variants that were made with the session settings.

    Args:
        variants: all of the study; those without a file give no case.
        measure: threads and providers.
        dims: the symbolic dimensions' values, one set for each shape.
        versions: of onnxruntime, from :func:`runtimes`.
    """
    varying = {
        "onnxruntime": len(versions) > 1,
        "threads": len(measure.threads) > 1,
        "provider": len(measure.providers) > 1,
        "optimization": len(measure.optimization) > 1,
        **{name: len({values[name] for values in dims}) > 1 for name in dims[0]},
    }
    made = [variant for variant in variants if variant.state == "made"]
    result: list[Case] = []
    chosen = itertools.product(made, measure.threads, measure.providers, measure.optimization, dims, versions)
    for variant, threads, provider, level, values, version in chosen:
        settings = {
            "onnxruntime": version or "own",
            "threads": threads,
            "provider": provider.removesuffix("ExecutionProvider"),
            "optimization": level,
            **values,
        }
        shown = [f"{key}={value}" for key, value in settings.items() if varying[key]]
        name = " ".join([variant.name, *shown])
        result.append(
            Case(
                id=f"c{len(result)}",
                name=name,
                variant=variant.name,
                threads=threads,
                provider=provider,
                dims=values,
                optimization=level,
                runtime=version,
            )
        )
    return tuple(result)
