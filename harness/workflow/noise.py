"""``harness devices --noise``: a small model against itself on each device, and what that says of the device."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from harness.judge import noise
from harness.judge.timing import Timing
from harness.measure import pairs, plan
from harness.records.folder import gather, save_run
from harness.study import study
from harness.workflow.context import new_run
from harness.workflow.preflight import check_inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.devices.device import Device
    from harness.records.run import DeviceRecord, Run
    from harness.workflow.watcher import Watcher

# About a millisecond on a fast core, and ten on a small board.
CHANNELS, SIDE, LAYERS = 64, 32, 3
# No device gets so precise or so far: the time ends it.
NEVER, MANY = 1e-9, 1000


EMULATED = "not measured: emulated"
TOO_SHORT = "fewer than three launches fit into this time: give a longer --time"


@dataclass(frozen=True)
class Finding:
    """What measuring a device's noise gave: the noise, or the reason why there is none."""

    device: DeviceRecord
    noise: noise.Noise | None
    reason: str | None


def measure(devices: Sequence[Device], seconds: float, watcher: Watcher) -> list[Finding]:
    """Measure a model against itself on all devices at once.

    Args:
        devices: the devices to measure.
        seconds: how long each device measures.
        watcher: is told of the progress.

    Returns:
        One finding for each device.

    Raises:
        KeyboardInterrupt: if it was interrupted.
        ResultsError: if this machine has no room for temporary files.
    """
    with tempfile.TemporaryDirectory(prefix="quant-harness-noise-") as temporary:
        path = Path(temporary) / "noise.onnx"
        path.write_bytes(_model())
        preflight = check_inputs(_study(path, seconds))
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
    if record.entry.emulated:
        return Finding(record, None, EMULATED)
    timing = Timing(name, run.launches, {}, {case.id: case.name for case in run.cases})
    pair = next((pair for pair in run.units if timing.launches_of(pair)), None)
    cores = record.facts.cores if record.facts is not None else 1
    if pair is not None and (found := noise.of(timing, pair, cores)) is not None:
        return Finding(record, found, None)
    failed = [f"{each.kind}: {each.reason}" for each in run.results if each.device == name and each.state == "failed"]
    stopped = [f"{record.step}: {record.reason}"] if record.reason else []
    return Finding(record, None, [*stopped, *failed, TOO_SHORT][0])


def _study(path: Path, seconds: float) -> study.Study:
    found = study.for_model(path)
    section = found.measure.model_copy(update={"max_time": seconds, "precision": NEVER, "rounds": MANY, "counting": False})
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
