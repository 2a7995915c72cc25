"""What is measured and in which order: cases, rounds, and the request that a runner carries out."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.devices.facts import Facts
    from harness.devices.registry import Device
    from harness.quantize.recipe import Variant
    from harness.study import MeasureSection

PROTOCOL = 1
# A case's instructions are counted in processes of their own until two agree to 0.1 %, but in no more than these.
COUNT_ROUNDS = 5
COUNT_SPREAD = 0.001
COUNT_ITERATIONS = 5


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


def cases(variants: Sequence[Variant], measure: MeasureSection, dims: Sequence[dict[str, int]]) -> tuple[Case, ...]:
    """Cross the variants that were made with the session settings.

    Args:
        variants: all of the study; those without a file give no case.
        measure: threads and providers.
        dims: the symbolic dimensions' values, one set for each shape.
    """
    varying = {
        "threads": len(measure.threads) > 1,
        "provider": len(measure.providers) > 1,
        **{name: len({values[name] for values in dims}) > 1 for name in dims[0]},
    }
    made = [variant for variant in variants if variant.state == "made"]
    result: list[Case] = []
    for variant, threads, provider, values in itertools.product(made, measure.threads, measure.providers, dims):
        settings = {"threads": threads, "provider": provider.removesuffix("ExecutionProvider"), **values}
        shown = [f"{key}={value}" for key, value in settings.items() if varying[key]]
        name = " ".join([variant.name, *shown])
        result.append(
            Case(id=f"c{len(result)}", name=name, variant=variant.name, threads=threads, provider=provider, dims=values)
        )
    return tuple(result)


def rounds(planned: Sequence[Case], count: int, seed: int) -> list[list[str]]:
    """Order the visits: every round visits every case once, in an order of its own.

    A random order keeps a drift of the device from favouring the same case in every round (Box, Hunter, Hunter: Statistics
    for Experimenters, 'block what you can, randomize what you cannot').
    """
    chance = random.Random(seed)  # noqa: S311 - an order, no secret
    ids = [case.id for case in planned]
    return [chance.sample(ids, len(ids)) for _ in range(count)]


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


def request(
    planned: Sequence[Case],
    variants: Mapping[str, Variant],
    inputs: Sequence[Inputs],
    measure: MeasureSection,
    device: Device,
    facts: Facts,
    seed: int,
) -> dict[str, Any]:
    """Write the request for one device, as runners/PROTOCOL.md says."""
    by_dims = {tuple(found.dims.items()): found for found in inputs}
    described = []
    for case in planned:
        feed = by_dims[tuple(case.dims.items())]
        described.append(
            {
                "id": case.id,
                "model": variants[case.variant].sha256,
                "inputs": feed.sha256,
                "names": list(feed.names),
                "threads": case.threads,
                "provider": case.provider,
            }
        )
    asked: dict[str, Any] = {
        "protocol": PROTOCOL,
        "cases": described,
        # Times on an emulated device mean nothing: none are taken.
        "rounds": [] if is_emulated(device, facts) else rounds(planned, measure.rounds, seed),
        "samples": measure.emulated_samples if is_emulated(device, facts) else None,
        "counter": counter(device, facts, measure),
        "count_rounds": COUNT_ROUNDS,
        "count_spread": COUNT_SPREAD,
        "count_iterations": COUNT_ITERATIONS,
        "max_time": measure.max_time,
        "timeout": measure.timeout,
        "warmup": measure.warmup,
        "block": measure.block,
        "block_limit": measure.block_limit,
        "iterations": measure.iterations,
    }
    if device.cpus is not None:
        asked["cpus"] = device.cpus
    return asked
