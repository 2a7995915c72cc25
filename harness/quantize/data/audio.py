"""Recordings as a model's input: read with soundfile, and made into features by the caller's own function."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import DataError
from harness.quantize.data.callables import blamed, find
from harness.quantize.data.feeds import Batches
from harness.quantize.data.generators import as_feed
from harness.quantize.data.input_binding import chosen_input, fixed_values
from harness.quantize.data.labels import classes_of, find_files, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from harness.quantize.data.feeds import Labelled
    from harness.quantize.data.fit import Fit
    from harness.quantize.data.sources import Array, Feed
    from harness.study.datasets import DataTable

SUFFIXES = (".wav", ".flac", ".ogg")
MONO = 1


def open_audio(fit: Fit, table: DataTable) -> Recordings:
    """Prepare reading a folder of recordings, or one.

    Args:
        fit: the model's side.
        table: of the kind ``audio``. Its ``features`` get the samples, float32 in -1..1, [frames] if there is one channel, else [frames,
            channels], and the rate in Hz. They give an array for the input, or a dictionary for all of them, or several of either: a
            list, or a generator. Each is a whole input, or one row of it: then rows are put together to the batch.

    Returns:
        What begins a pass, and has notes after it.

    Raises:
        DataError: if there are no recordings, or the table does not suit the model.
    """
    folder = Path(str(table.audio))
    features = find(table.features) if table.features else None
    # Features may give every input; samples as they are, or a plain array, are for one.
    spec = None
    if features is None or table.input is not None or len(fit.model.inputs) - len(table.fixed) == 1:
        spec = chosen_input(fit, table.input or _only_left(fit, table), str(folder), None, "recordings")
    fixed = fixed_values(fit, table.fixed, [spec.name], str(folder)) if spec else {}
    files = find_files(folder, SUFFIXES, "recording")
    classes = classes_of(files, folder, table.labels) if fit.wants_labels else None
    recordings = _Files(files, spread(len(files), table.samples), table)

    def items() -> Iterator[tuple[str, Feed, int | None]]:
        for index, samples, rate in recordings:
            label = None if classes is None else classes[index]
            place = f"{files[index]}"
            made: list[object] = [samples]
            if features is not None:
                place += f": features {table.features}"
                with blamed(place):
                    made = list(_several(features(samples, rate)))
            for number, item in enumerate(made):
                spot = place if number == 0 else f"{place}: item {number}"
                if isinstance(item, np.ndarray) and spec is None:
                    names = ", ".join(each.name for each in fit.model.inputs)
                    message = f"{spot}: gave one array, and the inputs are {names}; give the others in fixed, or let it give a dictionary"
                    raise DataError(message)
                feed = {spec.name: item} if spec and isinstance(item, np.ndarray) else as_feed(fit, spot, item)
                yield spot, feed, label

    return Recordings(fit, items, fixed)


class _Files:
    """The samples of each recording: index of the file, float32 samples, rate in Hz."""

    def __init__(self, files: list[Path], chosen: list[int], table: DataTable) -> None:
        self._files, self._chosen, self._table = files, chosen, table

    def __iter__(self) -> Iterator[tuple[int, Array, int]]:
        rate = self._table.rate
        said = "the study says" if rate else ""
        channels = self._table.channels if isinstance(self._table.channels, int) else MONO
        for index in self._chosen:
            path = self._files[index]
            samples, found = read(path)
            if rate is not None and found != rate:
                message = f"{path}: is sampled at {found} Hz, and {said} {rate} Hz; resample it, or set rate"
                raise DataError(message)
            rate, said = found, said or f"{path} at"
            if samples.shape[1] != channels:
                message = f"{path}: has {samples.shape[1]} channels, and {channels} is wanted; mix it down, or set channels"
                raise DataError(message)
            yield index, samples[:, 0] if channels == MONO else samples, found


class Recordings:
    """Makes feeds of what features gave: whole inputs as they are, rows put together."""

    def __init__(self, fit: Fit, items: Callable[[], Iterator[tuple[str, Feed, int | None]]], fixed: Feed) -> None:
        self._fit, self._items, self._fixed = fit, items, fixed
        self._batches = Batches(fit.batch, lambda: iter(()), fixed)

    def __call__(self) -> Iterator[Labelled]:
        """Begin a pass."""
        self._batches.total = 0
        for whole, group in groupby(self._checked(), key=lambda item: item[2]):
            if not whole:
                yield from self._batches.filled((feed, label) for feed, label, _ in group)
                continue
            for feed, label, _ in group:
                yield {**feed, **self._fixed}, None if label is None else np.full(self._fit.batch, label, np.int64)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know after a pass."""
        return self._batches.notes

    def _checked(self) -> Iterator[tuple[Feed, int | None, bool]]:
        """Go over what was given, with the label, and whether it is a whole input or a row of one.

        Raises:
            DataError: if it is neither.
        """
        fit = self._fit
        for place, feed, label in self._items():
            fit.check_names(place, [*feed, *(name for name in self._fixed if name not in feed)])
            own = [spec for spec in fit.model.inputs if spec.name in feed]
            for spec in own:
                fit.check_dtype(place, spec, feed[spec.name])
            whole = all(fit.fits(spec, feed[spec.name].shape) for spec in own)
            if not whole and not all(spec.shape and fit.fits(spec, feed[spec.name].shape, first=False) for spec in own):
                raise self._misshapen(place, feed)
            yield feed, label, whole

    def _misshapen(self, place: str, feed: Mapping[str, Array]) -> DataError:
        fit = self._fit
        spec = next(spec for spec in fit.model.inputs if spec.name in feed and not fit.fits(spec, feed[spec.name].shape))
        hint = "" if "features" in place else '; in a study, features = "module:callable" makes inputs of samples'
        return DataError(f"{fit.misshapen(place, spec, feed[spec.name])}{hint}")


def read(path: Path) -> tuple[Array, int]:
    """Read a recording: samples float32 [frames, channels] in -1..1, and its rate in Hz.

    Raises:
        DataError: if it is damaged or empty.
    """
    try:
        import soundfile  # noqa: PLC0415 - its C library may be missing where no recordings are read
    except OSError as exc:
        message = f"{path}: recordings can't be read here: {exc}; install libsndfile"
        raise DataError(message) from exc
    try:
        # Opened here, as the library has no words for a file that can't be.
        with path.open("rb") as stream:
            samples, rate = soundfile.read(stream, dtype="float32", always_2d=True)
    except (OSError, RuntimeError, TypeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else f"damaged, or not a recording: {exc}"
        message = f"{path}: {reason}; remove it from the folder, or replace it"
        raise DataError(message) from exc
    if not len(samples):
        message = f"{path}: has no samples; remove it from the folder"
        raise DataError(message)
    return samples, int(rate)


def _only_left(fit: Fit, table: DataTable) -> str | None:
    left = [spec.name for spec in fit.model.inputs if spec.name not in table.fixed]
    return left[0] if len(left) == 1 else None


def _several(made: object) -> Iterator[object]:
    """What features gave, one by one."""
    if isinstance(made, np.ndarray | dict) or not hasattr(made, "__iter__"):
        yield made
    else:
        yield from made
