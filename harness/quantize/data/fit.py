"""Whether arrays fit a model's inputs: names, types, shapes, numbers that are none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from harness.errors import DataError
from harness.study.toml_file import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from harness.quantize.data.dims import Shapes
    from harness.quantize.data.sources import Array, Header
    from harness.quantize.model.model import SourceModel, TensorSpec

Purpose = Literal["calibration", "evaluation"]
LABELS = "labels"


@dataclass(frozen=True)
class Fit:
    """The model's side of a check.

    Attributes:
        shapes: of the inputs, for one combination of dimensions.
        what: calibration data may differ in the model's open dimensions from sample to sample, but for the batch, and hold no NaN;
            evaluation data have one shape, as devices measure one.
    """

    model: SourceModel
    shapes: Shapes
    what: Purpose

    @property
    def batch(self) -> int:
        """Rows of a feed: the first axis of the first input that has one; an empty input tells nothing."""
        return next((shape[0] for shape in self.shapes.values() if shape and shape[0]), 1)

    @property
    def takes_labels(self) -> bool:
        """Whether ``labels`` beside the inputs are labels, and not an input of that name."""
        return all(spec.name != LABELS for spec in self.model.inputs)

    @property
    def wants_labels(self) -> bool:
        """Whether labels are looked at."""
        return self.what == "evaluation" and self.takes_labels

    def wants(self, spec: TensorSpec) -> str:
        """Describe an input as it is fed."""
        return f"{self.model.path.name} wants {spec.dtype} {shown(self.shapes[spec.name])} for each run"

    def check_names(self, place: str, names: Iterable[str]) -> None:
        """See that there is an array for each input, and no other.

        Raises:
            DataError: if not.
        """
        wanted = [spec.name for spec in self.model.inputs]
        given = [name for name in names if not (name == LABELS and self.takes_labels)]
        faults = [f"it has '{name}', which is not an input; {nearest(name, wanted)}" for name in given if name not in wanted]
        faults += [f"input '{name}' is missing" for name in wanted if name not in given]
        if faults:
            described = ", ".join(str(spec) for spec in self.model.inputs)
            message = f"{place}: {'; '.join(faults)}; {self.model.path.name} wants {described}"
            raise DataError(message)

    def check_dtype(self, place: str, spec: TensorSpec, array: Array | Header) -> None:
        """See that an array has its input's type.

        Raises:
            DataError: if not.
        """
        if array.dtype.name != spec.dtype:
            how = f"convert it with .astype('{spec.dtype}')"
            if array.dtype.hasobject:
                how = "it holds Python objects; make an array of numbers of it"
            message = f"{place}: '{spec.name}' is {array.dtype.name} {shown(array.shape)}; {self.wants(spec)}: {how}"
            raise DataError(message)

    def fits(self, spec: TensorSpec, shape: tuple[int, ...], *, first: bool = True) -> bool:
        """Whether a shape is that of one run.

        Args:
            spec: the input.
            shape: of the array, without its first axis if that is not looked at.
            first: whether it is.
        """
        axes = list(zip(spec.shape, self.shapes[spec.name], strict=True))[0 if first else 1 :]
        free = self.what == "calibration"
        return len(axes) == len(shape) and all(
            size == wanted or (free and isinstance(name, str)) for size, (name, wanted) in zip(shape, axes, strict=True)
        )

    def check_feed(self, place: str, feed: Mapping[str, Array]) -> None:
        """See that a feed is what one run takes.

        Raises:
            DataError: if not.
        """
        self.check_names(place, feed)
        for spec in self.model.inputs:
            self.check_dtype(place, spec, feed[spec.name])
            if not self.fits(spec, feed[spec.name].shape):
                raise self.misshapen(place, spec, feed[spec.name])

    def check_values(self, place: str, feed: Mapping[str, Array]) -> None:
        """See that a feed has values, and that those of calibration data hold no NaN or infinity.

        Raises:
            DataError: if not.
        """
        if feed and all(array.size == 0 for array in feed.values()):
            shapes = ", ".join(f"{name!r} {shown(array.shape)}" for name, array in feed.items())
            message = f"{place.replace('@ of ', '')} is empty: all of its inputs have a size of 0 ({shapes}); remove it"
            raise DataError(message)
        for name, array in feed.items():
            if self.what == "calibration" and array.dtype.kind == "f" and not np.isfinite(array).all():
                message = (
                    f"{place.replace('@', repr(name))} holds NaN or infinity, which would ruin the calibrated ranges; remove it"
                )
                raise DataError(message)

    def misshapen(self, place: str, spec: TensorSpec, array: Array | Header) -> DataError:
        """The error for an array of another shape."""
        hint = ""
        if array.ndim == len(spec.shape) - 1:
            hint = "; the axis of the samples is missing: array[numpy.newaxis]"
        elif any(isinstance(size, str) for size in spec.shape):
            hint = f"; its open dimensions are set by --dim or dims: {spec}"
            if self.what == "evaluation":
                hint += "; only calibration data may differ in them, and evaluation data are what devices measure"
        return DataError(f"{place}: '{spec.name}' is {spec.dtype} {shown(array.shape)}; {self.wants(spec)}{hint}")


def empty_inputs(feed: Mapping[str, Array]) -> str:
    """Name the inputs that hold no values, as in a past of length 0; nothing if all do."""
    found = [f"'{name}' {shown(array.shape)}" for name, array in feed.items() if array.size == 0]
    return f"a size is 0: {', '.join(found)}" if found else ""


def checked_labels(place: str, labels: Array | None) -> NDArray[np.int64]:
    """Return labels as int64 [rows].

    Raises:
        DataError: if there are none, or they are not one whole number for each row.
    """
    if labels is None:
        message = f"{place}: has no '{LABELS}', while others have"
        raise DataError(message)
    if labels.ndim > 1 and labels.size == len(labels):
        labels = labels.reshape(-1)  # [rows, 1]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        message = f"{place}: '{LABELS}' is {labels.dtype} {shown(labels.shape)}; it must be one integer class per row"
        raise DataError(message)
    return labels.astype(np.int64)


def check_label_count(place: str, labels: NDArray[np.int64], rows: int) -> None:
    """See that each row has a label.

    Raises:
        DataError: if not.
    """
    if len(labels) != rows:
        message = f"{place}: {len(labels)} labels for {rows} rows; give one label for each"
        raise DataError(message)


def shown(shape: tuple[int, ...]) -> str:
    """A shape as messages show it."""
    return f"[{', '.join(map(str, shape))}]"
