"""What making a study's variants will take: passes over the calibration data, memory and time. All of it is estimated."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import DataError, ModelError
from harness.quantize.data import audio, images, random_data
from harness.quantize.data.dims import input_shapes
from harness.quantize.data.files import open_files
from harness.quantize.data.fit import Fit
from harness.quantize.data.load import table_of
from harness.quantize.model import storage
from harness.quantize.model.outline import WEIGHT_INPUTS
from harness.quantize.model.shapes import infer
from harness.quantize.planning.caveats import made_opset
from harness.quantize.target_nodes import STATIC_OPS
from harness.quantize.verify import trial_run
from harness.study.datasets import CALLABLE, DataTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from harness.quantize.model.model import SourceModel
    from harness.quantize.model.outline import Node, Summary
    from harness.quantize.model.shapes import Shape
    from harness.quantize.recipe import Recipe

HISTOGRAMS = frozenset({"Entropy", "Percentile", "Distribution"})
# Seconds of one core; measured with the digits, MobileNetV2, ResNet-18 and a Transformer of 3 M weights.
PER_VARIANT, PER_WEIGHT_BYTE, PER_NODE, PER_HISTOGRAM_NUMBER = 0.1, 15e-9, 10e-6, 25e-9
PREPARATION, PER_PREPARED_BYTE = 0.4, 25e-9
PER_SESSION, PER_LOADED_BYTE, PER_LOADED_NODE = 0.005, 2e-9, 30e-6  # without optimizations
OPTIMIZING = 2  # how many times as long a session with optimizations takes
EFFICIENCY = 0.5  # of one core's rate that a network without graph optimization reaches
COPIES = 3  # of the model at once: as it was read, as it is calibrated, and in the runtime


@dataclass(frozen=True)
class Forecast:
    """What will be taken; bytes and seconds are estimates.

    Attributes:
        passes: inferences for each sample, over all calibrations together.
        samples: of the study's calibration data; None if they can't be counted without reading them.
        activations: bytes of all tensors that are calibrated, for one sample; they are in memory at once.
        memory: bytes at the peak of a calibration, beside Python and its libraries.
        multiplications: of one inference.
        seconds: for all of it, on this machine, within a factor of 3; None if the samples can't be counted.
        checks: those of the seconds in which what is prepared, raised and made runs beside the model, to see what it computes.
        seconds_per_sample: of calibration.
        unknown: tensors whose shape can't be inferred, and that are not counted.
    """

    passes: int
    samples: int | None
    activations: int
    memory: int
    multiplications: int
    seconds: float | None
    seconds_per_sample: float
    unknown: int
    checks: float = 0.0


def forecast(
    recipes: Sequence[Recipe], model: SourceModel, summary: Summary, dims: Mapping[str, int], samples: int | None
) -> Forecast:
    """Estimate what a build takes.

    Args:
        recipes: those that are made; recipes that share a file count once.
        model: its weights need not be loaded.
        summary: of the model.
        dims: sizes of its open dimensions.
        samples: how many there are to calibrate with, if that is known.
    """
    shapes = infer(model, dims)
    tensors = calibrated(summary)
    known = [shapes[name] for name in tensors if name in shapes]
    activations = sum(prod(shape) * width for shape, width in known)
    work = sum(_multiplications(node, shapes) for node in summary.nodes)
    methods = {(recipe.calibration, recipe.calibration_data) for recipe in recipes if recipe.has_ranges}
    passes = _passes(methods)
    histograms = sum(method in HISTOGRAMS for method, _ in methods)
    single = 2 * work / _rate() / EFFICIENCY + len(summary.nodes) * PER_NODE
    each = passes * single + histograms * sum(prod(shape) for shape, _ in known) * PER_HISTOGRAM_NUMBER
    tooled = sum(not recipe.is_copied for recipe in recipes)
    making = tooled * (PER_VARIANT + PER_WEIGHT_BYTE * summary.parameters)
    making += PREPARATION + PER_PREPARED_BYTE * model.size if tooled else 0
    checks = _checks(recipes, model, summary, single)
    making += checks
    return Forecast(
        passes=passes,
        samples=samples,
        activations=activations if methods else 0,
        memory=COPIES * model.size + (activations if methods else 0),
        multiplications=work,
        seconds=None if samples is None and methods else making + each * (samples or 0),
        seconds_per_sample=each,
        unknown=len(tensors) - len(known) if methods else 0,
        checks=checks,
    )


def _checks(recipes: Sequence[Recipe], model: SourceModel, summary: Summary, single: float) -> float:
    """Estimate the seconds in which models are held against the user's: it runs twice, the prepared, each raised and each made one once."""
    prepared = [recipe for recipe in recipes if recipe.is_prepared]
    small = not storage.is_large(model.size)
    tried = sum(small and trial_run.is_tried(recipe) for recipe in recipes)
    if not prepared and not tried:
        return 0.0
    raised = {made_opset(recipe, summary) for recipe in prepared} - {summary.opset}
    sessions = 1 + bool(prepared) + len(raised)
    inferences = sessions + 1 + (tried if single <= trial_run.LONGEST else 0)
    opened = PER_SESSION + PER_LOADED_BYTE * model.size + PER_LOADED_NODE * len(summary.nodes)
    return inferences * single + (sessions + OPTIMIZING * tried) * opened


def calibrated(model: Summary) -> tuple[str, ...]:
    """List the tensors that a calibration looks at: what the operators that static quantization knows take and give, but for constants."""
    fixed = {constant.name for node in model.nodes for constant in node.constants.values()}
    names = (name for node in model.nodes if node.kind in STATIC_OPS for name in (*node.inputs, *node.outputs))
    return tuple(name for name in dict.fromkeys(names) if name and name not in fixed)


def count_samples(source: str | DataTable, model: SourceModel, dims: Mapping[str, int]) -> int | None:
    """Count calibration samples by the headers of numpy's files and the names of others.

    Returns:
        How many feeds there are, or None if that can't be known so: of ``module:callable``, and of data that don't fit the model.
    """
    try:
        table = source if isinstance(source, DataTable) else table_of(source)
    except DataError:
        return None
    place = table.images or table.audio
    if table.kind == "random":
        return table.samples or random_data.SAMPLES
    if place is not None:
        suffixes = images.SUFFIXES if table.images else audio.SUFFIXES
        found = Path(place)
        files = [found] if found.is_file() else [file for file in found.rglob("*") if file.suffix.lower() in suffixes]
        return min(len(files), table.samples or len(files)) or None
    if CALLABLE.fullmatch(str(table.arrays)):
        return None
    try:
        fit = Fit(model, input_shapes(model, dims), "calibration")
        return len(open_files(fit, Path(str(table.arrays)))[0])
    except (DataError, ModelError):
        return None


def _passes(methods: Iterable[tuple[str | None, str | None]]) -> int:
    """Count inferences per sample: histograms need the range of all samples before the first number is counted."""
    by_data: dict[str | None, int] = {}
    for method, data in methods:
        by_data[data] = max(by_data.get(data, 0), 2 if method in HISTOGRAMS else 1)
    return sum(by_data.values())


def _multiplications(node: Node, shapes: Mapping[str, tuple[Shape, int]]) -> int:
    """Multiplications of a node: each number of the output takes as many as a weight has for it."""
    places = WEIGHT_INPUTS.get(node.kind, ())
    if not places or node.kind in {"Gather", "EmbedLayerNormalization"} or not node.outputs or len(node.inputs) <= places[0]:
        return 0
    weight, output = (shapes.get(name, ((), 0))[0] for name in (node.inputs[places[0]], node.outputs[0]))
    if not weight:
        return 0
    if node.kind in {"LSTM", "GRU", "RNN"}:
        steps = shapes.get(node.inputs[0], ((1, 1), 0))[0]
        return 2 * prod(weight) * prod(steps[:2])
    if node.kind == "Conv":
        return prod(output) * prod(weight[1:])
    if node.kind == "ConvTranspose":
        return prod(shapes.get(node.inputs[0], ((), 0))[0]) * prod(weight[1:])
    rows = weight[-2] if len(weight) > 1 else weight[0]
    return prod(output) * rows


@cache
def _rate() -> float:
    """This machine's floating-point operations per second and core in a plain matrix product.

    The products are so small that one core computes them, and the fastest counts: on a busy machine several wait for each other.
    """
    side, span = 64, 0.03
    left = np.ones((side, side), np.float32)
    best, begun = _timed(left), time.perf_counter()
    while time.perf_counter() - begun < span:
        best = min(best, _timed(left))
    return 2 * side**3 / best


def _timed(matrix: NDArray[np.float32]) -> float:
    start = time.perf_counter()
    matrix @ matrix
    return max(time.perf_counter() - start, 1e-6)
