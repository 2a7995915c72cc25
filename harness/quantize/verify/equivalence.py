"""Checks whether two models compute the same: both run on one sample, and their outputs are compared."""

from __future__ import annotations

import math
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort

from harness.quantize.quiet import FATAL, quiet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

    Array = NDArray[Any]
    Outputs = Mapping[str, Array]

# Reordered float32 sums of deep networks differ by 90 dB and more; another meaning of an attribute by 40 dB and less.
LEAST_SQNR, LEAST_OF_SLICE = 60.0, 40.0
SLICES = 256  # of an axis that is looked at slice by slice
ABSOLUTE = 1e-6  # what cancellation of float32 numbers around 1 leaves
# By how much larger than what a change of the inputs in their last digits does, a difference is still one of rounding.
NOISE_FACTOR, NUDGE = 30.0, 4  # the nudge in units of the type's epsilon
HALF_LESS = 25.0  # dB that float16 leaves less
LONGEST = 30.0  # seconds that one inference may take
MOST = 1 << 22  # values of an output that are looked at; of larger ones every second, fourth, … along their longest axes
NUMERIC = "fiub"


class RunError(Exception):
    """A model could not be run; its message says why."""


@dataclass(frozen=True)
class Difference:
    """One output that two models give differently.

    Attributes:
        output: its name.
        sqnr_db: of the other model's against the original's; None where that is not a number.
        detail: what else there is to say, such as the shapes; empty if there is nothing.
        tensor: the first tensor of both models that differs, the node that gives it and its type; None if it is not known.
    """

    output: str
    sqnr_db: float | None
    detail: str = ""
    tensor: tuple[str, str, str] | None = None

    @property
    def sentence(self) -> str:
        """For a reader, without a full stop."""
        what = self.detail or f"has an SQNR of {self.sqnr_db:.1f} dB against the original"
        text = f"output '{self.output}' {what}"
        if self.tensor is None:
            return text
        name, node, kind = self.tensor
        return f"{text}; the first tensor that differs is '{name}' of node '{node}' ({kind})"


def run(model: Path | bytes, feed: Outputs, *, times: int = 1, took: list[float] | None = None) -> list[dict[str, Array]]:
    """Run a model as it is written, without optimizations, and let go of it.

    Args:
        model: its file, or its bytes.
        feed: one array per input.
        times: how often.
        took: the seconds of each run are appended to it.

    Returns:
        The numeric outputs of each run, by name.

    Raises:
        RunError: if one inference takes more than 30 seconds.
        Exception: of onnxruntime, if it can't load or run the model.
    """
    options = ort.SessionOptions()
    options.log_severity_level = FATAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    with quiet():
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        with limited() as limits:
            values = session.run(names, dict(feed), limits)
        if took is not None:
            took.append(time.perf_counter() - begun)
        found.append(
            {
                name: value
                for name, value in zip(names, values, strict=True)
                if isinstance(value, np.ndarray) and value.dtype.kind in NUMERIC
            }
        )
    return found


@contextmanager
def limited() -> Iterator[ort.RunOptions]:
    """Give options of a run that is ended when it takes too long.

    Raises:
        RunError: if it was.
    """
    limits = ort.RunOptions()
    limits.log_severity_level = FATAL
    ended = threading.Event()

    def end() -> None:
        ended.set()
        limits.terminate = True

    timer = threading.Timer(LONGEST, end)
    timer.daemon = True
    timer.start()
    try:
        yield limits
    except Exception as exc:
        if ended.is_set():
            message = f"one inference takes more than {LONGEST:.0f} seconds"
            raise RunError(message) from exc
        raise
    finally:
        timer.cancel()


def compare(original: Outputs, other: Outputs, rounded: Outputs | None = None) -> Difference | None:
    """Compare the outputs of two models that ought to be the same but for the order of float32 sums.

    Each output is compared as a whole and slice by slice along each axis of at most 256, so that large values hide no small ones.

    Args:
        original: numeric outputs by name.
        other: of the model that was made of it.
        rounded: the original's outputs for :func:`nudged` inputs: by how much more these differ, the other's may.

    Returns:
        The worst difference, or None.
    """
    near = rounded or {}
    found = [each for name, ref in original.items() if (each := _difference(name, ref, other.get(name), near.get(name)))]
    return min(found, key=lambda each: -math.inf if each.sqnr_db is None else each.sqnr_db, default=None)


def _difference(name: str, ref: Array, x: Array | None, rounded: Array | None) -> Difference | None:
    if x is None:
        return Difference(name, None, "is missing")
    if ref.shape != x.shape:
        return Difference(name, None, f"has the shape {list(x.shape)}, but {list(ref.shape)} in the original")
    if rounded is not None and rounded.shape != ref.shape:
        rounded = None
    if ref.dtype.kind != "f" or x.dtype.kind != "f":
        return _unequal(name, ref, x, rounded)
    return _distance(name, ref, x, rounded)


def _unequal(name: str, ref: Array, x: Array, rounded: Array | None) -> Difference | None:
    """Compare integers."""
    unequal = int(np.sum(ref != x))
    # Of two values that are all but equal, rounding says which is the largest.
    if unequal == 0 or (rounded is not None and int(np.sum(ref != rounded)) * NOISE_FACTOR >= unequal):
        return None
    return Difference(name, None, f"differs from the original in {unequal} of {ref.size} values")


def _distance(name: str, ref: Array, x: Array, rounded: Array | None) -> Difference | None:
    """Compare floating-point numbers."""
    finite = np.isfinite(ref)
    if not np.array_equal(finite, np.isfinite(x)) or not np.array_equal(ref[~finite], x[~finite], equal_nan=True):
        count = int(np.sum(~np.isfinite(x)))
        return Difference(
            name, None, f"has {count} values of {ref.size} that are not finite, but {int(np.sum(~finite))} in the original"
        )
    chosen = places(ref.shape)
    ref, x, finite = ref[chosen], x[chosen], finite[chosen]
    rounded = None if rounded is None else rounded[chosen]
    values, others, near = (
        np.where(finite, each, 0).astype(np.float64) for each in (ref, x, ref if rounded is None else rounded)
    )
    with np.errstate(invalid="ignore", over="ignore"):
        power, wrong, allowed = np.square(values), np.square(values - others), np.nan_to_num(np.square(values - near))
    less = HALF_LESS if np.float16 in (ref.dtype, x.dtype) else 0.0
    for axes, least in _views(ref.shape):
        signal, noise, floor = (each.sum(axis=axes) for each in (power, wrong, allowed))
        largest = wrong.max(axis=axes, initial=0.0)
        if np.any((largest > ABSOLUTE**2) & (noise * 10 ** ((least - less) / 10) > signal) & (noise > floor * NOISE_FACTOR)):
            total = float(wrong.sum())
            sqnr = 10 * math.log10(float(power.sum()) / total) if power.any() else -math.inf
            return Difference(name, sqnr)
    return None


def places(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Choose the values of an array to look at: all, unless there are too many to be held several times in float64."""
    steps = [1] * len(shape)
    while math.prod(-(-size // step) for size, step in zip(shape, steps, strict=True)) > MOST:
        longest = max(range(len(shape)), key=lambda axis: shape[axis] / steps[axis])
        steps[longest] *= 2
    return tuple(slice(None, None, step) for step in steps)


def _views(shape: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], float]]:
    """Yield the axes to sum over, for the whole and for each slice, and the SQNR in dB that is least expected there."""
    whole = tuple(range(len(shape)))
    yield whole, LEAST_SQNR
    for axis, size in enumerate(shape):
        if 1 < size <= SLICES:
            yield tuple(each for each in whole if each != axis), LEAST_OF_SLICE


def nudged(feed: Outputs) -> dict[str, Array]:
    """Change each floating-point input in its last digits: what that does to outputs, the order of sums may do as well."""
    rng = np.random.default_rng(0)
    return {
        name: value
        if value.dtype.kind != "f"
        else (value * (1 + NUDGE * np.finfo(value.dtype).eps * rng.choice([-1.0, 1.0], value.shape))).astype(value.dtype)
        for name, value in feed.items()
    }


def first_difference(original: ModelProto, other: ModelProto, feed: Outputs) -> tuple[str, str, str] | None:
    """Find the first tensor, in the order of the original's nodes, that both models have and that differs.

    Returns:
        Its name, the name of the node that gives it and that node's type; None if no tensor of the same name differs.

    Raises:
        Exception: of onnxruntime, if it can't run a model with all tensors as outputs.
    """
    makers: dict[str, NodeProto] = {name: node for node in original.graph.node for name in node.output if name}
    others = {name for node in other.graph.node for name in node.output}
    common = [name for name in makers if name in others]
    ref, x = (run(_opened(model, common), feed)[0] for model in (original, other))
    for name in common:
        if name in ref and _difference(name, ref[name], x.get(name), None):
            return name, makers[name].name, makers[name].op_type
    return None


def _opened(model: ModelProto, names: list[str]) -> bytes:
    """Serialize a model that gives further tensors as outputs."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    already = {value.name for value in copied.graph.output}
    copied.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in already)
    serialized: bytes = copied.SerializeToString()
    return serialized
