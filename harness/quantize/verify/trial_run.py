"""Runs each variant once as a user would run it, and compares its outputs with the float model's.

A file can be valid and right, and still fail or compute something else once onnxruntime has optimized it. Only an inference
at the default optimization level shows that.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort

from harness.quantize.model.graph import nodes
from harness.quantize.quiet import FATAL, quiet
from harness.quantize.reasons import raw_text
from harness.quantize.verify import equivalence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from harness.quantize.recipe import Recipe
    from harness.quantize.verify.sample import Sample

    Array = NDArray[Any]

LONGEST = 2.0  # seconds of one inference of the float model; of slower models no variant is run
LEAST_DB = 10.0  # an SQNR below this is worth a note
DOUBTFUL_DB = 15.0  # below this, the file runs without optimization too
GAIN_DB = 10.0  # by how much that must be better for the optimizer to be the cause
HERE = f"onnxruntime {ort.__version__} on this machine"
ON_ONE, UNCHECKED = "on one sample, ", "what it computes was not checked: "
AT_NODE = re.compile(r"while running (\w+) node\. Name:'([^']*)'")
DEFAULT, DISABLED = ort.GraphOptimizationLevel.ORT_ENABLE_ALL, ort.GraphOptimizationLevel.ORT_DISABLE_ALL
WAY_OUT = 'leave the nodes around it in float with exclude_nodes, or set optimization = ["disabled"] in [measure]'


class Failure(Exception):  # noqa: N818 - the file is there
    """onnxruntime does not load or run a file at its default optimization level.

    Attributes:
        reason: what onnxruntime raised.
        note: for a reader.
        loads: whether it loads.
    """

    def __init__(self, reason: Exception, note: str, *, loads: bool = False) -> None:
        """Keep them."""
        self.reason, self.note, self.loads = reason, note, loads
        super().__init__(str(reason))

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle it with its parts: the run is in a child process."""
        return partial(Failure, loads=self.loads), (self.reason, self.note)


def is_tried(recipe: Recipe) -> bool:
    """Say whether a recipe's variant is run: not what computes the same as the model and is verified, nor a file of onnxruntime's own format."""
    return recipe.is_reduced and recipe.file_format == "onnx"


def is_told(note: str) -> bool:
    """Say whether a note is one of this module's or of the check whether a file loads: it belongs to the file, not to the recipe."""
    return note.startswith((HERE, ON_ONE, UNCHECKED))


def is_of_sample(note: str) -> bool:
    """Say whether a note depends on the sample."""
    return note.startswith(ON_ONE) or (note.startswith(HERE) and "fails when it runs" in note)


def run(path: Path, sample: Sample) -> tuple[str, ...]:
    """Run a variant on a sample at onnxruntime's default optimization level, with one thread.

    Args:
        path: its file.
        sample: what the float model makes of it.

    Returns:
        Notes on what is wrong with its outputs; none if nothing is.

    Raises:
        Failure: if onnxruntime does not load or run it.
    """
    session = None
    try:
        session = _open(path, DEFAULT)
        if sample.seconds > LONGEST:
            return (f"{UNCHECKED}one inference of the model takes more than {LONGEST:.0f} s",)
        found = _outputs(session, sample)
    except equivalence.RunError as exc:
        return (f"{ON_ONE}{exc} in {HERE}; the model itself took {sample.seconds:.1f} s",)
    except Exception as exc:
        loads = session is not None
        raise Failure(exc, _failure(path, sample, exc, loads=loads), loads=loads) from exc
    seen = {name: Seen.of(ref, found.get(name)) for name, ref in sample.outputs.items()}
    if all(each.is_fine for each in seen.values()):
        return ()
    plain: Mapping[str, Array] = {}
    with suppress(Exception):  # such as operators that exist only in optimized graphs
        plain = _outputs(_open(path, DISABLED), sample)
    return tuple(_told(session, sample, seen, plain))


def _open(path: Path, level: ort.GraphOptimizationLevel) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = FATAL
    options.intra_op_num_threads = 1
    options.graph_optimization_level = level
    with quiet():
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _outputs(session: ort.InferenceSession, sample: Sample) -> dict[str, Array]:
    """Run a session once; gives the numeric outputs that the float model has."""
    names = [output.name for output in session.get_outputs() if output.name in sample.outputs]
    with equivalence.limited() as limits:
        values = session.run(names, dict(sample.feed), limits)
    return {name: value for name, value in zip(names, values, strict=True) if isinstance(value, np.ndarray)}


def _failure(path: Path, sample: Sample, exc: Exception, *, loads: bool) -> str:
    """Tell where a file fails, and whether it does so without optimization too."""
    what = "loads it, but fails when it runs" if loads else "does not load it"
    text = f"{HERE} {what}: {_at(exc, path)}{raw_text(exc, [path.parent])}"
    try:
        plain = _open(path, DISABLED)
        if sample.seconds <= LONGEST:
            _outputs(plain, sample)
    except Exception:  # noqa: BLE001 - so optimization is not the cause
        return text
    return f"{text}; with optimization disabled it {'runs' if sample.seconds <= LONGEST else 'loads'}: {WAY_OUT}"


def _at(exc: Exception, path: Path) -> str:
    """Name the node at which an inference failed, the innermost one where bodies are involved."""
    found = AT_NODE.findall(str(exc))
    if not found:
        return ""
    kind, name = found[-1]
    known = any(name and node.name == name for node in nodes(onnx.load(path, load_external_data=False)))
    return f"node '{name}' ({kind}): " if known else f"a {kind} that onnxruntime has inserted: "


@dataclass(frozen=True)
class Seen:
    """How an output of a variant differs from the float model's.

    Attributes:
        shape: the variant's if it is another than the float model's; None if the output is missing or the shape the same.
        lost: values that are finite in the float model and not in the variant.
        sqnr_db: of the values that are finite in both; infinite for integers, and where the float model's values are all 0.
        constant: all values are the same, and the float model's are not.
    """

    shape: tuple[int, ...] | None = None
    lost: int = 0
    sqnr_db: float = math.inf
    constant: bool = False

    @classmethod
    def of(cls, ref: Array, x: Array | None) -> Seen:
        """Compare an output."""
        if x is None:
            return cls()
        if ref.shape != x.shape:
            return cls(shape=x.shape)
        if ref.dtype.kind != "f" or x.dtype.kind != "f" or not ref.size:
            return cls()
        places = equivalence.places(ref.shape)
        ref, x = ref[places], x[places]
        finite = np.isfinite(ref)
        both = finite & np.isfinite(x)
        values, others = ref[both].astype(np.float64), x[both].astype(np.float64)
        lost = int(finite.sum() - both.sum())
        if not values.size:
            return cls(lost=lost)
        wrong = values - others
        power, noise = float(np.sum(values**2)), float(np.sum(wrong**2))
        differs = bool(power and np.abs(wrong).max() > equivalence.ABSOLUTE)
        sqnr = 10 * math.log10(power / noise) if differs else math.inf
        constant = differs and bool(np.ptp(others) == 0) and bool(np.ptp(values) > np.abs(values).max() * equivalence.ABSOLUTE)
        return cls(None, lost, sqnr, constant)

    @property
    def is_fine(self) -> bool:
        """Whether nothing about it is doubtful."""
        return self.shape is None and not self.lost and not self.constant and self.sqnr_db >= DOUBTFUL_DB

    def is_mended_by(self, plain: Seen) -> bool:
        """Say whether the same file without optimization is far better."""
        if plain.shape is not None or plain.lost:
            return False
        return self.shape is not None or self.lost > 0 or plain.sqnr_db > self.sqnr_db + GAIN_DB


def _told(session: ort.InferenceSession, sample: Sample, seen: Mapping[str, Seen], plain: Mapping[str, Array]) -> list[str]:
    """Tell what is wrong with the outputs, each kind of it once."""
    declared = {output.name: output.shape for output in session.get_outputs()}
    kinds: dict[str, list[str]] = defaultdict(list)
    for name in sorted(seen, key=lambda each: seen[each].sqnr_db):
        found, ref = seen[name], sample.outputs[name]
        other = Seen.of(ref, plain[name]) if name in plain else None
        if not found.is_fine and other and found.is_mended_by(other):
            text = f"{_difference(found, ref)}, but {_plainly(other)} with optimization disabled; {HERE} changes what the file computes when it optimizes it: {WAY_OUT}"
            kinds["optimizer"].append(f"output '{name}' {text}")
        elif found.shape is not None:
            if _is_wrong(found.shape, ref.shape, declared.get(name, [])):
                kinds["shape"].append(f"output '{name}' {_difference(found, ref)}")
        elif found.lost or found.constant or found.sqnr_db < LEAST_DB:
            kind = "lost" if found.lost else "constant" if found.constant else "low"
            kinds[kind].append(f"output '{name}' {_difference(found, ref)}; `harness debug` shows where it is lost")
    return [f"{ON_ONE}{texts[0]}{_more(len(texts) - 1)}" for texts in kinds.values()]


def _more(count: int) -> str:
    return f" (the same kind of loss in {count} more output{'s' if count > 1 else ''})" if count else ""


def _difference(found: Seen, ref: Array) -> str:
    """Say what is wrong with an output."""
    if found.shape is not None:
        return f"has the shape {list(found.shape)} instead of {list(ref.shape)}"
    if found.lost:
        finite = int(np.isfinite(ref).sum())
        return f"has {found.lost} values of {ref.size} that are not finite beyond those of fp32 ({ref.size - finite or 'none'})"
    if found.constant:
        return "is constant, but varies in fp32"
    return f"has an SQNR of {found.sqnr_db:.1f} dB against fp32"


def _plainly(found: Seen) -> str:
    return "it is fp32's but for rounding" if math.isinf(found.sqnr_db) else f"{found.sqnr_db:.1f} dB"


def _is_wrong(shape: Sequence[int], expected: Sequence[int], declared: Sequence[Any]) -> bool:
    """Say whether a shape can't be a matter of the values, as the number of boxes that are found is."""
    if not len(shape) == len(expected) == len(declared):
        return True
    return any(isinstance(said, int) and one != other for one, other, said in zip(shape, expected, declared, strict=True))
