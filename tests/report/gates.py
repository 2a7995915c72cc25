"""Runs of a release gate: a baseline's case and the candidate's, with levels that a test names."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.devices.device import Device
from harness.judge.judgement import Judgement
from harness.measure.events import Begin, Counted, End, Evaluated, Event, FidelityLine
from harness.measure.launch import Launch
from harness.quantize.recipe import Recipe, Variant
from harness.records.baseline import Baseline, BaselineDevice, Level
from harness.records.context import Context
from harness.records.run import DeviceRecord
from harness.study.claims_and_gate import GateSection
from harness.study.study import MeasureSection, ModelSection, Study
from tests import duets
from tests.report.runs import SHA, case, facts, finish

if TYPE_CHECKING:
    from collections.abc import Sequence

PAIR = ("c1", "c0")
ROUNDS = 20
CASES = [case("c0", "given"), case("c1", "baseline:given")]


def variant(name: str, size: int) -> Variant:
    return Variant(recipe=Recipe(name=name, method="given"), state="made", sha256=SHA, size=size)


def baseline(**changes: Any) -> Baseline:
    """A saved one, measured a week before at 2 µs."""
    device = BaselineDevice(
        context=Context(arch="aarch64", cores=4, kernel="6.0"), levels={"given": Level(median=0.002, low=0.0019, high=0.0021)}
    )
    said: dict[str, Any] = {
        "name": "2.3", "kind": "saved", "run": "ocr/2026-11-13", "build": "https://ci/7", "taken": datetime(2026, 11, 13, 9, 0, tzinfo=UTC),
        "devices": {"board": device},
    }  # fmt: skip
    return Baseline(**{**said, **changes})


def launches(slowdown: float, count: int, *, start: int = 0, spread: float = 0.003, seed: int = 1) -> list[Event]:
    """Processes in which the candidate takes so much longer than the baseline's 2 µs, in four rebuilds each."""
    chance = np.random.default_rng(seed)
    found: list[Event] = []
    for number in range(start, start + count):
        slower = (1 + slowdown) * np.exp(spread * chance.normal(size=4))
        found.append(duets.launch("board", PAIR, number, [[2_000_000, round(2_000_000 * each)] for each in slower]))
    return found


def loads(before: int, now: int, number: int) -> Launch:
    """A process in which sessions are created in so many nanoseconds, but for the first ones."""
    each = [duets.rebuild(duets.pair([[2000] * 3, [2000] * 3]), load_ns=[9 * before, before] if first else [before, now]) for first in (True, False, False)]  # fmt: skip
    return Launch.model_validate({**duets.line(PAIR, number, *each), "device": "board"})


def counted(identifier: str, number: int, instructions: float) -> Counted:
    said = {
        "device": "board",
        "case": identifier,
        "round": number,
        "counter": "icount",
        "instructions": [instructions],
        "load_ns": 1,
    }
    return Counted.model_validate({**said, "cycles": None})


def evaluated(identifier: str, peak: int) -> Evaluated:
    outputs = {"name": f"{identifier}.npz", "size": 1, "sha256": SHA}
    said = {
        "device": "board",
        "case": identifier,
        "outputs": outputs,
        "load_ns": 1,
        "first_ns": 1,
        "peak_bytes": peak,
        "seconds": 0.1,
    }
    return Evaluated.model_validate(said)


def accuracy(identifier: str, share: float) -> FidelityLine:
    return FidelityLine(device="board", case=identifier, mse=0.0, identical=True, accuracy=share, samples=100)


def gate(
    events: Sequence[Event],
    asked: GateSection | None = None,
    *,
    emulated: bool = False,
    sizes: tuple[int, int] = (1000, 1000),
    against: Baseline | None = None,
    ended: bool = True,
    **entry: Any,
) -> Judgement:
    """A gate's run on 'board'; sizes are the candidate's and the baseline's."""
    study = Study(
        name="ocr",
        model=ModelSection(path=Path("ocr.onnx")),
        gate=asked or GateSection(max_regression=0.02),
        measure=MeasureSection(rounds=ROUNDS),
    )
    record = DeviceRecord(entry=Device(name="board", host="h", **entry))
    begin: list[Event] = [Begin(device="board", time=0.0, facts=facts(emulated=emulated))]
    end: list[Event] = [End(device="board", reason="rounds")] if ended else []
    return finish(
        [*begin, *events, *end], record, variants=[variant("given", sizes[0]), variant("baseline:given", sizes[1])], cases=CASES,
        study=study, units=(PAIR,), baseline=against or baseline(), build="https://ci/8",
    )  # fmt: skip
