"""What is measured and in which order: cases, rounds, and the request that a runner carries out."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.devices.registry import Device
    from harness.quantize.recipe import Variant
    from harness.study import MeasureSection

PROTOCOL = 1


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


def request(
    planned: Sequence[Case],
    variants: Mapping[str, Variant],
    inputs: Sequence[Inputs],
    measure: MeasureSection,
    device: Device,
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
        "rounds": rounds(planned, measure.rounds, seed),
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
