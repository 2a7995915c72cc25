"""Calibration and evaluation data, checked against the model and given as feeds, one at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import DataError
from harness.quantize.data import audio, generators, images, random_data
from harness.quantize.data.dims import input_shapes
from harness.quantize.data.feeds import Stream
from harness.quantize.data.files import open_files
from harness.quantize.data.fit import LABELS, Fit, Purpose, check_label_count
from harness.quantize.data.profile import Profile, profile
from harness.quantize.data.sources import SUFFIXES
from harness.study.datasets import CALLABLE, RANDOM, DataTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from harness.quantize.data.feeds import Labelled
    from harness.quantize.data.sources import Array, Feed
    from harness.quantize.model.model import SourceModel

__all__ = ["Purpose", "Samples", "first", "load"]


@dataclass(frozen=True)
class Samples:
    """Data, ready to be fed.

    Attributes:
        feeds: for each run of the model, an array per input in the input's dtype and shape. Gone over one at a time, they need the
            memory of one; they can be gone over again and again.
        labels: int64 [len(feeds) · batch], or None.
        source: where they came from.
        random: they mean nothing; no accuracy may be concluded from them.
        notes: what a user should know, such as samples that were dropped.
    """

    feeds: Sequence[Feed]
    labels: NDArray[np.int64] | None
    source: str
    random: bool = False
    notes: tuple[str, ...] = ()
    _known: Profile | None = field(default=None, repr=False, compare=False)

    @cached_property
    def profile(self) -> Profile:
        """What they look like."""
        return self._known or profile(self.feeds, {} if self.labels is None else {LABELS: self.labels})

    @property
    def digest(self) -> str:
        """SHA-256, in hex, over names, dtypes, shapes and bytes of all arrays in order."""
        return self.profile.digest


def load(source: str | DataTable, model: SourceModel, dims: Mapping[str, int], *, what: Purpose) -> Samples:
    """Open data, and go over them once to check them.

    Args:
        source: an .npz or .npy file, an image, a recording, a folder of one of these, ``module:callable`` (which gives whole feeds),
            ``random``, ``random:uniform(0,1)``; or a study's table.
        model: what they are fed to.
        dims: one of the combinations of :func:`harness.quantize.data.dims.resolve_dims`. Evaluation data have these sizes; calibration data
            may differ in open dimensions, from sample to sample if they come as whole inputs.
        what: in calibration data ``labels`` are ignored, and NaN and infinities refused.

    Raises:
        DataError: if the data can't be read or do not fit the model.
        ModelError: if the dimensions are not the model's.
    """
    fit = Fit(model, input_shapes(model, dims), what)
    table = table_of(source) if isinstance(source, str) else source
    name = str(source)
    if table.kind == "arrays" and not CALLABLE.fullmatch(str(table.arrays)):
        feeds, labels, notes = open_files(fit, Path(str(table.arrays)))
        known = profile(_finite(fit, name, feeds), {} if labels is None else {LABELS: labels})
        return Samples(feeds, labels, name, notes=notes, _known=known)
    make, notes_of = _maker(fit, table, name)
    stream = Stream(name, make, watched=bool(table.features) or table.kind == "arrays")
    found: list[NDArray[np.int64] | None] = []
    joined: dict[str, Array] = {}

    def first_pass() -> Iterator[Feed]:
        for feed, labels in stream.labelled():
            found.append(labels)
            yield feed
        if any(labels is not None for labels in found):
            joined[LABELS] = _joined(fit, name, found)

    known = profile(_finite(fit, name, first_pass()), joined)
    return Samples(stream, joined.get(LABELS), name, random=table.kind == "random", notes=notes_of(), _known=known)


def first(source: str | DataTable, model: SourceModel, dims: Mapping[str, int]) -> Feed:
    """Read the first calibration sample, and go over no others.

    Raises:
        DataError: if there is none, or the data do not fit the model.
        ModelError: if the dimensions are not the model's.
    """
    fit = Fit(model, input_shapes(model, dims), "calibration")
    table = table_of(source) if isinstance(source, str) else source
    name = str(source)
    if table.kind == "arrays" and not CALLABLE.fullmatch(str(table.arrays)):
        return open_files(fit, Path(str(table.arrays)))[0][0]
    make, _ = _maker(fit, table, name)
    for feed, _ in make():
        return feed
    message = f"{name}: yielded nothing"
    raise DataError(message)


def _maker(fit: Fit, table: DataTable, name: str) -> tuple[Callable[[], Iterator[Labelled]], Callable[[], tuple[str, ...]]]:
    """Find what makes feeds anew on each pass, and what tells notes after one.

    Raises:
        DataError: if the data can't be opened.
    """
    if table.kind == "images":
        batches, taken = images.open_images(fit, table)
        return batches, lambda: (*taken, *batches.notes)
    if table.kind == "audio":
        recordings = audio.open_audio(fit, table)
        return recordings, lambda: recordings.notes
    if table.kind == "random":
        note = f"the {fit.what} data are random, so accuracy figures mean nothing"
        return random_data.stream(fit, table, name), lambda: (note,)
    return generators.stream(fit, name), lambda: ()


def table_of(source: str) -> DataTable:
    """Say in a table what a text means.

    Raises:
        DataError: if it is a path where nothing is.
    """
    if RANDOM.fullmatch(source):
        return random_data.read(source)
    if CALLABLE.fullmatch(source):
        return DataTable(arrays=source)
    path = Path(source)
    if not path.exists():
        message = f"{path}: no such file or folder; data are an .npz file, an image, a recording, a folder of them, 'module:callable' or 'random'"
        raise DataError(message)
    kinds = {"arrays": SUFFIXES, "images": images.SUFFIXES, "audio": audio.SUFFIXES}
    names = [path] if path.is_file() else [file for file in path.rglob("*") if not file.name.startswith(".")]
    suffixes = {file.suffix.lower() for file in names}
    kind = next((kind for kind, known in kinds.items() if suffixes & set(known)), "arrays")
    return DataTable(**{kind: source})


def _finite(fit: Fit, name: str, feeds: Iterator[Feed] | Sequence[Feed]) -> Iterator[Feed]:
    for number, feed in enumerate(feeds):
        fit.check_values(f"{name}: @ of sample {number}", feed)
        yield feed


def _joined(fit: Fit, name: str, labels: Sequence[NDArray[np.int64] | None]) -> NDArray[np.int64]:
    """Join the labels of all feeds.

    Raises:
        DataError: if some have none, or too many.
    """
    for number, each in enumerate(labels):
        if each is None:
            message = f"{name}: item {number}: has no '{LABELS}', while others have"
            raise DataError(message)
    whole = np.concatenate([each for each in labels if each is not None])
    check_label_count(name, whole, len(labels) * fit.batch)
    return whole
