"""The output that labels are held against, and the class that it gives each row."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.errors import ModelError
from harness.study.toml_file import nearest

if TYPE_CHECKING:
    from harness.quantize.model.model import SourceModel

Array = NDArray[Any]
Outputs = Mapping[str, Array] | Sequence[Array]
MIN_CLASSES = 2
NUMERIC = "fiub"
# The middle of probabilities, and of logits: sigmoid(0) = 0.5.
HALF, ZERO = 0.5, 0.0
Kind = Literal["scores", "score", "class"]


@dataclass(frozen=True)
class ClassOutput:
    """An output that tells the class of each row.

    Attributes:
        name: of the output.
        kind: ``scores``: [rows, classes], the largest one is the class; ``score``: one number for each row, above the threshold it is
            class 1, else 0; ``class``: an integer for each row, the class itself. Further axes of size 1 are dropped.
        threshold: of a single score: 0.5 where all of fp32's lie in 0 … 1, as probabilities do, else 0, as for logits.
        classes: how many there are; None where an integer names the class.
        rows: of one run; None takes the first axis for them.
    """

    name: str
    kind: Kind
    threshold: float = ZERO
    classes: int | None = None
    rows: int | None = None

    def predict(self, output: Array) -> NDArray[np.int64]:
        """Return the class of each row, int64 [rows]; -1 where a row of NaN, or of nothing but -infinity, names none."""
        table = as_table(output, self.rows)
        if table is None:
            return np.empty(0, np.int64)
        if self.kind == "class":
            return np.asarray(table, np.int64)
        if self.kind == "score":
            return np.where(np.isnan(table), -1, table > self.threshold).astype(np.int64)
        best = table.max(axis=1)  # NaN where any is
        return np.where(best > -np.inf, table.argmax(axis=1), -1).astype(np.int64)


@dataclass(frozen=True)
class Choice:
    """What labels are held against.

    Attributes:
        output: the output; None where no output suits.
        note: what a reader must know: which of several outputs it is, how a single score is read, or why labels are not used.
        wanted: the output that the study names.
    """

    output: ClassOutput | None = None
    note: str | None = None
    wanted: str | None = None

    def name(self, kept: Collection[str]) -> str | None:
        """The output that agreement and KL are of, if it is one of those that are compared."""
        name = self.output.name if self.output is not None else self.wanted
        return name if name in kept else None


def check_name(model: SourceModel, wanted: str | None) -> None:
    """See that a model has the output that a study names.

    Raises:
        ModelError: if it has not.
    """
    names = [spec.name for spec in model.outputs]
    if wanted is not None and wanted not in names:
        message = f"{model.path}: [model] output: no output is called '{wanted}'; {nearest(wanted, names)}"
        raise ModelError(message)


def as_table(output: Array, rows: int | None = None) -> Array | None:
    """Drop axes of size 1 behind the first: [rows, classes], or [rows] of one number for each.

    Args:
        output: of one run.
        rows: that the run has; None takes the first axis for them. A single row may have no axis of its own.

    Returns:
        The view; None if the output has another number of rows, or more than one further axis.
    """
    shape = output.shape
    if not shape or (rows is not None and shape[0] != rows):
        if rows != 1 or output.size == 0:
            return None
        shape = (1, *shape)
    rest = [size for size in shape[1:] if size != 1]
    return output.reshape(shape[0], *rest) if len(rest) <= 1 else None


def find(
    reference: Sequence[Outputs], names: Sequence[str], labels: NDArray[np.int64] | None, wanted: str | None = None
) -> Choice:
    """Choose the output that labels are held against.

    Of several, the first that has as many classes as the labels name; then the first that has more of them.

    Args:
        reference: for each feed fp32's outputs, by name or in the order of the names.
        names: of the outputs.
        labels: class of each row, [rows of all feeds], or None.
        wanted: the output that the study names.
    """
    if labels is None:
        return Choice(wanted=wanted)
    feeds = [feed if isinstance(feed, Mapping) else dict(zip(names, feed, strict=True)) for feed in reference]
    if not feeds or not len(labels):
        return Choice(wanted=wanted)
    rows, rest = divmod(len(labels), len(feeds))
    ranked: list[tuple[int, int, ClassOutput]] = []
    for position, name in enumerate(names):
        if wanted in {None, name} and not rest and (found := _suits(name, [feed[name] for feed in feeds], rows, labels)):
            ranked.append((found[0], position, found[1]))
    if not ranked:
        return Choice(None, _unused(feeds[0], names, labels, rows, wanted), wanted)
    _, _, chosen = min(ranked, key=lambda each: each[:2])
    return Choice(chosen, _used(chosen, feeds[0][chosen.name], len(names), wanted), wanted)


def accuracy(of: ClassOutput, outputs: Sequence[Array], labels: NDArray[np.int64]) -> float | None:
    """The share of rows whose class is the label.

    Args:
        of: how the output is read.
        outputs: that output's values, for each feed.
        labels: class of each row, [rows of these feeds].

    Returns:
        The share; None without rows.
    """
    found = [of.predict(output) for output in outputs]
    guess = np.concatenate(found) if found else np.empty(0, np.int64)
    return float(np.mean((guess == labels) & (guess >= 0))) if len(guess) == len(labels) > 0 else None


def agreement(of: ClassOutput, reference: Sequence[Array], outputs: Sequence[Array]) -> float | None:
    """The share of rows whose class is fp32's, of those where fp32 names one; None without such rows.

    Args:
        of: how the output is read.
        reference: that output's values of fp32, for each feed.
        outputs: the same of the variant.
    """
    pairs = [(of.predict(ref), of.predict(x)) for ref, x in zip(reference, outputs, strict=True)]
    count = sum(int(np.sum(ref >= 0)) for ref, _ in pairs)
    return sum(int(np.sum((ref == x) & (ref >= 0))) for ref, x in pairs) / count if count else None


def _suits(name: str, outputs: Sequence[Array], rows: int, labels: NDArray[np.int64]) -> tuple[int, ClassOutput] | None:
    """How well an output suits labels, 0 for best, and how it is read; None if it does not."""
    tables = [as_table(output, rows) if output.dtype.kind in NUMERIC else None for output in outputs]
    seen = [table for table in tables if table is not None]
    if len(seen) < len(tables) or len({(table.ndim, *table.shape[1:]) for table in seen}) > 1:
        return None
    floats = seen[0].dtype.kind == "f"
    if seen[0].ndim == MIN_CLASSES:
        count, needed = seen[0].shape[1], int(labels.max()) + 1
        if count < MIN_CLASSES:
            return None
        rank = 0 if count == needed else 1 if count > needed else 3
        return rank + (0 if floats else 4), ClassOutput(name, "scores", classes=count, rows=rows)
    if not floats:
        return 2, ClassOutput(name, "class", rows=rows)
    if labels.min() < 0 or labels.max() > 1:
        return None
    with np.errstate(invalid="ignore"):
        probabilities = all(((table >= 0) & (table <= 1)).all() for table in seen)
    return 0, ClassOutput(name, "score", HALF if probabilities else ZERO, MIN_CLASSES, rows)


def _used(chosen: ClassOutput, output: Array, outputs: int, wanted: str | None) -> str | None:
    """Say which output it is, where that is not plain."""
    named = f"the labels are compared with output '{chosen.name}' {shown(output)}"
    other = '; [model] output = "NAME" in the study chooses another' if outputs > 1 and wanted is None else ""
    if chosen.kind == "score":
        read = "a probability (all lie in 0 … 1): above 0.5" if chosen.threshold else "a logit: above 0"
        return f"{named}, one number for each row, read as {read} is class 1, else class 0{other}"
    if chosen.kind == "class":
        return f"{named}, whose integers are read as classes{other}"
    if output.ndim != MIN_CLASSES:
        return f"{named}, read as {chosen.rows} row{'s' if chosen.rows != 1 else ''} of {chosen.classes} classes{other}"
    return f"{named}{other}" if outputs > 1 else None


def _unused(feed: Mapping[str, Array], names: Sequence[str], labels: NDArray[np.int64], rows: int, wanted: str | None) -> str:
    """Say why labels are not used."""
    listed = ", ".join(f"'{name}' {shown(feed[name])}" for name in ([wanted] if wanted in names else names) if name)
    which = (
        f"output {listed}, which [model] output names, does not give"
        if wanted in names
        else f"none of the outputs ({listed}) gives"
    )
    one = labels.min() < 0 or labels.max() > 1
    beyond = (
        f"; one number for each row can tell classes 0 and 1 only, and the labels lie in {labels.min()} … {labels.max()}"
        if one
        else ""
    )
    return (
        f"the labels are not used, so there is no top-1 accuracy: {which} a score for each class, as in [{rows}, classes], or one number "
        f"for each of the {rows} row{'s' if rows > 1 else ''} of a run{beyond}; labels of single positions are not supported; a function "
        "under [model] metric can compute any other figure"
    )


def shown(output: Array) -> str:
    """An array's type and shape as messages show them."""
    return f"{output.dtype.name} [{', '.join(map(str, output.shape))}]"
