"""What is measured: cases, and the request that a runner carries out."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict
from scipy import stats

from harness.devices.protocol import PROTOCOL
from harness.study.study import Optimization

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import protocol
    from protocol import Plan

    from harness.devices.device import Device
    from harness.devices.facts import Facts
    from harness.quantize.recipe import Variant
    from harness.study.study import MeasureSection

# A ratio's interval is not looked at before: of processes that are fast or slow as a whole, fewer are too often all of one kind.
LEAST_ROUNDS = 6
# Pairs of blocks between two rebuilds of the sessions; the replicate is the median over them.
PAIRS = 3
# Two-sided 95 %: the quantiles of Student's t that the device needs, for 1, 2, … degrees of freedom.
LEVEL, QUANTILES = 0.95, 200
THROUGHPUT_ROUNDS, THROUGHPUT_SECONDS = 4, 0.5
# A case's instructions are counted in processes of their own until two agree to 0.1 %, but in no more than these.
COUNT_ROUNDS = 5
COUNT_SPREAD = 0.001
COUNT_ITERATIONS = 5
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
    """When a device knows enough of the pairs of a gate.

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
    """Say why a device of an architecture measures no case of a variant, or None: a file in onnxruntime's format is for one platform.

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


def counter(device: Device, facts: Facts, measure: MeasureSection) -> Literal["icount", "perf"] | None:
    """Say what counts instructions on a device: an icount board's clock, the kernel of a real one, or nothing."""
    if not measure.counting:
        return None
    emulated = device.emulated or (facts.emulated.by if facts.emulated else None)
    if emulated is not None:
        return "icount" if emulated == "icount" else None
    return "perf" if facts.uncountable is None else None


def is_emulated(device: Device, facts: Facts) -> bool:
    """Whether a device's times mean nothing, as its owner or its facts say."""
    return device.emulated is not None or facts.emulated is not None


def request(  # noqa: PLR0913, PLR0917 - each is a part of the request
    planned: Sequence[Case],
    units: Sequence[tuple[str, ...]],
    variants: Mapping[str, Variant],
    inputs: Sequence[Inputs],
    measure: MeasureSection,
    device: Device,
    facts: Facts,
    seed: int,
    hashes: Mapping[str, str] | None = None,
    bar: Bar | None = None,
) -> Plan:
    """Write the request for one device, as runners/PROTOCOL.md says.

    Hashes are those of its runtimes by version; a bar asks for decisions in the place of precision.
    """
    planned = [case for case in planned if belongs(case, device) and not misplaced(variants[case.variant], facts.arch)]
    ids = {case.id for case in planned}
    by_dims = {tuple(found.dims.items()): found for found in inputs}
    described: list[protocol.Case] = []
    for case in planned:
        feed, variant = by_dims[tuple(case.dims.items())], variants[case.variant]
        assert variant.sha256 is not None  # noqa: S101 - for the type checker: only what was made has cases
        described.append(
            {
                "id": case.id,
                "model": variant.sha256,
                "data": variant.data,
                "inputs": feed.sha256,
                "names": list(feed.names),
                "threads": case.threads,
                "provider": case.provider,
                "optimization": case.optimization,
                "runtime": (hashes or {}).get(case.runtime or ""),
            }
        )
    # Times on an emulated device mean nothing: none are taken.
    emulated = is_emulated(device, facts)
    asked: Plan = {
        "protocol": PROTOCOL,
        "cases": described,
        "units": [] if emulated else [list(unit) for unit in units if ids.issuperset(unit)],
        "seed": seed,
        "rounds": measure.rounds,
        "least_rounds": LEAST_ROUNDS,
        "precision": math.log1p(measure.precision),
        "t": _quantiles(LEVEL),
        "turns": measure.duet == "calls",
        "rebuilds": measure.rebuilds,
        "pairs": PAIRS,
        "block": measure.block,
        "warmup": measure.warmup,
        "launch": measure.launch,
        "samples": measure.emulated_samples if emulated else None,
        "counter": counter(device, facts, measure),
        "count_rounds": COUNT_ROUNDS,
        "count_spread": COUNT_SPREAD,
        "count_iterations": COUNT_ITERATIONS,
        "throughput": [] if emulated else measure.throughput,
        "throughput_rounds": THROUGHPUT_ROUNDS,
        "throughput_seconds": THROUGHPUT_SECONDS,
        "max_time": measure.max_time,
        "timeout": measure.timeout,
        "longest": longest(measure, len(described)),
    }
    if bar is not None:
        asked |= {
            "least_rounds": bar.first_look,
            "t": _quantiles(bar.level),
            "limits": [
                (list(unit), math.log1p(limit)) for unit, limit in bar.limits.get(device.name, {}).items() if ids.issuperset(unit)
            ],
            "first_round": bar.first_round,
        }
    if device.cpus is not None:
        asked["cpus"] = device.cpus
    if device.governor is not None:
        asked["governor"] = device.governor
    if device.memory is not None:
        asked["memory"] = device.memory
    return asked


def longest(measure: MeasureSection, count: int) -> float:
    """How long a job of so many cases may take, in seconds; past this it ends itself, whatever it does.

    Evaluations, and what is under way when the time is up, come on top of the time to measure.
    """
    return 2 * measure.max_time + measure.timeout * (count + 2)


def _quantiles(level: float) -> list[float]:
    """Student's t, two-sided, for 1, 2, … degrees of freedom."""
    return [round(float(stats.t.ppf((1 + level) / 2, freedom)), 6) for freedom in range(1, QUANTILES + 1)]
