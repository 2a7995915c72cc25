"""Runs as a journal would give them, with devices and models that say hostile things."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np

from harness.devices.device import Device
from harness.devices.facts import Emulation, Facts, Runtime
from harness.judge.judgement import Judgement, judge
from harness.judge.row import Row
from harness.measure import pairs
from harness.measure.events import Begin, End, Event, Failed, FidelityLine, Round
from harness.measure.launch import Launch
from harness.measure.plan import Case
from harness.measure.route_events import DeviceFailed
from harness.quantize.recipe import Recipe, Variant
from harness.records.assemble import assemble
from harness.records.run import DeviceRecord, Run, Versions
from harness.records.samples import QUANTILES, LaunchKey
from harness.study.study import ModelSection, Study
from tests import duets

NASTY = "<script>alert(1)</script> | `x` $\\frac$ \x07\x1b[31m ]]> \"q\" 'a' &amp; </pre>\nsecond line"
FP32, FAST, BROKEN, SHORT = "fp32", "static-QDQ", "broken", "short"
ROUNDS = {FP32: [2.0, 2.2, 1.9, 2.1, 2.0], FAST: [1.0, 1.1, 0.95, 1.05, 1.0], BROKEN: [1.0], SHORT: [3.0, 3.1]}
SHA = "ab" * 32


def variant(name: str, size: int | None = 1000) -> Variant:
    """A variant that was made."""
    recipe = Recipe(name=name, method="fp32" if name == FP32 else "static")
    return Variant(recipe=recipe, state="made", sha256=SHA, size=size, notes=(NASTY,) if name == FAST else ())


def lacking(name: str, state: str) -> Variant:
    """A variant without a file."""
    return Variant.model_validate({"recipe": {"name": name, "method": "static"}, "state": state, "reason": NASTY})


def case(identifier: str, name: str, *, named: str | None = None, threads: int = 1) -> Case:
    """A case of the variant ``name``."""
    return Case(
        id=identifier, name=named or name, variant=name, threads=threads, provider="CPUExecutionProvider", dims={"batch": 1}
    )


def facts(*, emulated: bool = False) -> Facts:
    """What a device says of itself."""
    said = Emulation(by="qemu", evidence=NASTY) if emulated else None
    return Facts(
        arch="aarch64", cpu_model=f"Cortex {NASTY}", features=["asimd", "<b>dot"], cores=4, python="3.12.1", emulated=said,
        memory_bytes=4_000_000_000, temperature_celsius=0.0, kernel="6.1", onnxruntime=Runtime(version="1.31.1", providers=["CPUExecutionProvider"]),
    )  # fmt: skip


def blocks(device: str, identifier: str, medians: Sequence[float], count: int = 101) -> list[Event]:
    """Processes of a case alone with these medians in milliseconds, of ``count`` iterations each, evenly spread around them."""
    found: list[Event] = []
    for number, median in enumerate(medians):
        ns = [round(value) for value in np.linspace(0.9 * median * 1e6, 1.1 * median * 1e6, count)]
        said = duets.line([identifier], number, duets.rebuild(duets.pair([ns], wall_ns=[500_000_000])))
        found.append(Launch.model_validate({**said, "device": device}))
    return found


def finish(
    events: Sequence[Event], *devices: DeviceRecord, variants: Sequence[Variant], cases: Sequence[Case], **extra: object
) -> Judgement:
    """Put a run together from its journal, and judge it."""
    run = Run(
        id="2026-11-20T10-15-00Z-ab12", started=datetime(2026, 11, 20, 10, 15, tzinfo=UTC), study=Study(name="digits", model=ModelSection.model_validate({"path": "model.onnx"})),
        model_sha256=SHA, model_size=4000, versions=Versions(harness="0.1.0", python="3.12", onnxruntime="1.31", onnx="1.23", numpy="2.4"),
        seed=7, variants=tuple(variants), cases=tuple(cases), devices=devices,
    )  # fmt: skip
    units = pairs.units(cases, {each.name: each for each in variants})
    whole = assemble(run.model_copy(update={"state": "complete", "units": units, **extra}), events)
    return judge(whole, quantiles([event for event in events if isinstance(event, Launch)]))


def row(judgement: Judgement, device: str, variant: str) -> Row:
    """Find a row."""
    table = next(table for table in judgement.tables if table.device.entry.name == device)
    return next(row for row in table.rows if row.variant == variant)


def quantiles(found: Sequence[Launch]) -> Mapping[LaunchKey, tuple[float, ...]]:
    """What records.samples.read_quantiles() reads from samples.parquet, for cases that ran alone."""
    result: dict[LaunchKey, tuple[float, ...]] = {}
    for launch in found:
        ns = [value for rebuild in launch.rebuilds for pair in rebuild.pairs for value in pair.samples[0].nanoseconds]
        result[launch.device, launch.cases[0], None, launch.round] = tuple(map(float, np.quantile(ns, QUANTILES)))
    return result


def hostile() -> Judgement:
    """One device that measured, one that failed; a case that failed, one with two rounds only, and variants without a file."""
    cases = [case("c0", FP32), case("c1", FAST, named=f"{FAST} {NASTY}=1"), case("c2", BROKEN), case("c3", SHORT)]
    events: list[Event] = [Begin(device="rpi4", time=0.0, facts=facts())]
    for each in cases:
        events += blocks("rpi4", each.id, ROUNDS[each.variant])
    events += [
        Failed(device="rpi4", case="c2", round=1, kind="crash", message=NASTY),
        FidelityLine(device="rpi4", case="c0", mse=0.0, identical=True, accuracy=0.98),
        FidelityLine(device="rpi4", case="c1", mse=1.5e-4, sqnr_db=31.25, accuracy=0.97, cosine=0.999),
        Round(device="rpi4", round=4, elapsed=1.0),
        End(device="rpi4", reason="rounds"),
        DeviceFailed(device="n1.lab", step="connect", reason=NASTY),
    ]
    variants = [variant(FP32, 4000), variant(FAST), variant(BROKEN), variant(SHORT), lacking("never", "impossible"), lacking("refused", "failed")]  # fmt: skip
    records = [DeviceRecord(entry=Device(name=name, host="10.0.0.9", tags=["arm64"])) for name in ("rpi4", "n1.lab")]
    return finish(events, *records, variants=variants, cases=cases, warnings=(NASTY,))


def simple(*, emulated: bool = False, medians: Mapping[str, Sequence[float]] = ROUNDS) -> Judgement:
    """One device that measured two cases."""
    events: list[Event] = [Begin(device="rpi4", time=0.0, facts=facts(emulated=emulated))]
    events += blocks("rpi4", "c0", medians[FP32]) + blocks("rpi4", "c1", medians[FAST])
    record = DeviceRecord(entry=Device(name="rpi4", host="10.0.0.9"))
    return finish(events, record, variants=[variant(FP32, 4000), variant(FAST)], cases=[case("c0", FP32), case("c1", FAST)])
