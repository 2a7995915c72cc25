"""``harness devices --noise``: a small model against itself on each device, and what that says of the device."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from harness.devices.device import Device
from harness.devices.probe import probe_all
from harness.judge import decision, noise
from harness.judge.effects import seconds_each
from harness.judge.timing import Timing
from harness.measure import pairs, plan
from harness.records.folder import gather, save_run
from harness.study import study
from harness.workflow.context import new_run
from harness.workflow.preflight import check_inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.devices.registry import Entry
    from harness.errors import Failure
    from harness.quantize.recipe import Variant
    from harness.records.run import DeviceRecord, LaunchRecord, Run
    from harness.workflow.watcher import Watcher

# About a millisecond on a fast core, and ten on a small board.
CHANNELS, SIDE, LAYERS = 64, 32, 3
# No device gets so precise or so far: the time ends it.
NEVER, MANY = 1e-9, 1000


EMULATED = "not measured: the device is emulated, so its times mean nothing"
COARSE = "not measured: the clock of the device is too coarse for the model's latency"
# The names of the two cases in the progress.
NAMES = {False: "the model", True: "the same model"}
# Beside the launches, a device takes time to start and to compute the outputs.
MARGIN, STEP = 1.5, 10


@dataclass(frozen=True)
class Finding:
    """What measuring a device's noise gave.

    Attributes:
        name: the name of the device.
        noise: its noise, or None.
        reason: why there is none.
        failure: the kind of failure, if the device failed.
    """

    name: str
    noise: noise.Noise | None = None
    reason: str | None = None
    failure: Failure | None = None


class _Watcher:
    """Reports what the devices do, and nothing of how the model is made."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self.event = watcher.event

    def variant(self, variant: Variant, total: int) -> None:
        """Nobody asked for the variants."""

    def plan(self, devices: Sequence[Device], cases: Sequence[plan.Case], rounds: int) -> None:
        """Measuring begins; the rounds have no limit that a user knows."""
        del rounds
        named = [case.model_copy(update={"name": NAMES[case.variant.startswith(pairs.BASELINE)]}) for case in cases]
        self._watcher.plan(devices, named, 0)


def measure(entries: Sequence[Entry], seconds: float, wait: float, watcher: Watcher) -> list[Finding]:
    """Measure a model against itself on all devices at once, except on those that can't be reached or are emulated.

    Args:
        entries: the devices to measure.
        seconds: how long each device measures.
        wait: how many seconds to wait for a device that is busy with another job.
        watcher: is told of the progress.

    Returns:
        One finding for each entry.

    Raises:
        KeyboardInterrupt: if it was interrupted.
        ResultsError: if this machine has no room for temporary files.
    """
    # An entry that says so already is not even connected to.
    found = {
        entry.name: Finding(entry.name, reason=EMULATED) for entry in entries if isinstance(entry, Device) and entry.emulated
    }
    asked = [entry for entry in entries if entry.name not in found]
    devices = []
    for answer in probe_all(asked) if asked else ():
        name, error = answer.device.name, answer.error
        if error is not None:
            found[name] = Finding(name, reason=f"{error.step}: {error.reason}", failure=error.failure)
        elif answer.facts is not None and answer.facts.emulated is not None:
            found[name] = Finding(name, reason=EMULATED)
        elif isinstance(answer.device, Device):
            devices.append(answer.device)
    found |= {each.name: each for each in _measure(devices, seconds, wait, _Watcher(watcher))} if devices else {}
    return [found[entry.name] for entry in entries]


def _measure(devices: Sequence[Device], seconds: float, wait: float, watcher: Watcher) -> list[Finding]:
    """Measure a model against itself on all devices at once.

    Raises:
        KeyboardInterrupt: if it was interrupted.
        ResultsError: if this machine has no room for temporary files.
    """
    with tempfile.TemporaryDirectory(prefix="quant-harness-noise-") as temporary:
        path = Path(temporary) / "noise.onnx"
        path.write_bytes(_model())
        preflight = check_inputs(_study(path, seconds, wait))
        with new_run(preflight, devices, Path(temporary), watcher) as context:
            made, interrupted = context.make()
            same = [
                each.model_copy(update={"recipe": each.recipe.model_copy(update={"name": pairs.BASELINE + each.name})})
                for each in made
            ]
            cases = plan.cases([*made, *same], preflight.study.measure, preflight.dims, plan.runtimes(devices))
            units = pairs.contests(cases, {each.name: pairs.BASELINE + each.name for each in made})
            begun = context.begin(devices, [*made, *same], cases, units)
            save_run(context.folder, begun)
            if not interrupted:
                watcher.plan(devices, cases, MANY)
                interrupted = context.measure(context.work([*made, *same], cases, units), devices)
            if interrupted:
                raise KeyboardInterrupt
            run = gather(context.folder, begun)
    return [_finding(run, record) for record in run.devices]


def _finding(run: Run, record: DeviceRecord) -> Finding:
    """Judge one device's part of the run."""
    name = record.entry.name
    timing = Timing(name, run.launches, {}, {case.id: case.name for case in run.cases})
    pair = next((pair for pair in run.units if timing.launches_of(pair)), None)
    cores = record.facts.cores if record.facts is not None else 1
    if pair is not None and (found := noise.of(timing, pair, cores)) is not None:
        return Finding(name, found)
    failed = [f"{each.kind}: {each.reason}" for each in run.results if each.device == name and each.state == "failed"]
    stopped = [f"{record.step}: {record.reason}"] if record.reason else []
    launches = timing.launches_of(pair) if pair else []
    lacking = COARSE if len(launches) >= decision.FIRST_LOOK else _too_short(launches, run.study.measure.max_time)
    return Finding(name, None, [*stopped, *failed, lacking][0], record.failure)


def _too_short(launches: Sequence[LaunchRecord], seconds: float) -> str:
    """Why too few launches fit into the time, and which time is enough."""
    each = seconds_each(launches, len(launches)) or seconds
    needed = STEP * math.ceil(MARGIN * max(decision.FIRST_LOOK * each, seconds) / STEP)
    fitted = f"{len(launches) or 'no'} launch{'' if len(launches) == 1 else 'es'} fitted into {seconds:g} s"
    return f"not measured: {fitted}, and {decision.FIRST_LOOK} are needed: give about --time {needed}s"


def _study(path: Path, seconds: float, wait: float) -> study.Study:
    found = study.for_model(path)
    section = found.measure.model_copy(
        update={"max_time": seconds, "precision": NEVER, "rounds": MANY, "counting": False, "wait": wait}
    )
    return found.model_copy(update={"measure": section, "variants": found.variants.model_copy(update={"methods": [study.GIVEN]})})


def _model() -> bytes:
    """A chain of convolutions with random float32 weights; input and output are [1, 64, 32, 32]."""
    chance = np.random.default_rng(0)
    shape, last, nodes, weights = [1, CHANNELS, SIDE, SIDE], "x", [], []
    for layer in range(LAYERS):
        scale = (2 / (CHANNELS * 9)) ** 0.5
        weight = (scale * chance.standard_normal((CHANNELS, CHANNELS, 3, 3))).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{layer}"))
        nodes.append(helper.make_node("Conv", [last, f"w{layer}"], [f"c{layer}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"]))
        last = f"r{layer}"
    inputs, outputs = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name in ("x", last))
    graph = helper.make_graph(nodes, "noise", inputs, outputs, weights)
    data: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    return data
