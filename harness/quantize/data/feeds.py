"""Feeds, one for each run of a model: read when they are asked for, and again when they are asked for again."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice
from typing import TYPE_CHECKING, overload

import numpy as np

from harness.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.quantize.data.sources import Array, ArrayFile, Feed

    Labelled = tuple[Feed, NDArray[np.int64] | None]
    Row = tuple[Feed, int | None]

LEFT_OUT = "the last {rest} of {total} samples do not fill a batch of {size} and are left out"
# Nobody calibrates with so many; a generator that has given them does not end.
ENDLESS = 10_000_000


class Feeds(Sequence["Feed"]):
    """A sequence of feeds that holds no more of them than it must: an array per input in the input's dtype and shape."""

    @abstractmethod
    def __iter__(self) -> Iterator[Feed]: ...

    @overload
    def __getitem__(self, index: int) -> Feed: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Feed, ...]: ...
    def __getitem__(self, index: int | slice) -> Feed | tuple[Feed, ...]:
        if isinstance(index, slice):
            return tuple(self._at(each) for each in range(*index.indices(len(self))))
        position = range(len(self))[index]  # raises IndexError, and counts from the end
        return self._at(position)

    def _at(self, position: int) -> Feed:
        return next(islice(iter(self), position, None))


@dataclass(frozen=True)
class Column:
    """The arrays of one input over all files.

    Attributes:
        size: rows of a feed; None if every entry is a whole input; 0 if each file has one value for all of its feeds.
        ends: number of rows up to the end of each file.
    """

    name: str
    size: int | None
    ends: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many feeds it is good for."""
        return self.ends[-1] // (self.size or 1)

    def rows(self, position: int) -> range:
        """The rows of a feed."""
        size = self.size or 1
        return range(position * size, (position + 1) * size)

    def take(self, position: int, read: Callable[[int], Feed], at: int) -> Array:
        """Cut out one feed's array.

        Args:
            position: of the feed.
            read: gives the arrays of a file.
            at: the file in which the feed begins.
        """
        if self.size == 0:
            return read(at)[self.name]
        rows = self.rows(position)
        pieces = []
        while len(rows):
            file = bisect_right(self.ends, rows[0])
            begun = self.ends[file] - len(read(file)[self.name])
            part = rows[: self.ends[file] - rows[0]]
            pieces.append(read(file)[self.name][part[0] - begun : part[-1] + 1 - begun])
            rows = rows[len(part) :]
        if self.size is None:
            return np.asarray(pieces[0][0])
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


@dataclass
class FileFeeds(Feeds):
    """Arrays in files, cut into feeds; one file is held at a time.

    Attributes:
        files: whose headers were read and found to fit.
        columns: one for each input, in the model's order.
        total: number of the feeds.
    """

    files: Sequence[ArrayFile]
    columns: Sequence[Column]
    total: int
    _held: tuple[int, Feed] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[Feed]:
        return map(self._at, range(self.total))

    def _at(self, position: int) -> Feed:
        leading = next((column for column in self.columns if column.size != 0), None)
        at = bisect_right(leading.ends, leading.rows(position)[0]) if leading else 0
        return {column.name: column.take(position, self._read, at) for column in self.columns}

    def _read(self, file: int) -> Feed:
        held = self._held
        if held is None or held[0] != file:
            held = self._held = None  # let go of it before the next one is read
            held = (file, self.files[file].read([column.name for column in self.columns]))
            self._held = held
        return held[1]


def ends_of(lengths: Iterable[int]) -> tuple[int, ...]:
    """Sum up lengths."""
    return tuple(accumulate(lengths))


@dataclass
class Stream(Feeds):
    """Feeds that are made anew on each pass: by a user's callable, of images or recordings, at random.

    Attributes:
        source: how messages begin.
        make: begins a pass: feeds that were checked, each with the labels of its rows, if there are any.
        watched: a user's code makes them, which may give something else on the next pass; calibration goes over data more than once.
    """

    source: str
    make: Callable[[], Iterator[Labelled]]
    watched: bool = False
    _first: tuple[int, str] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        if self._first is None:
            for _ in self.labelled():
                pass
        return self._first[0] if self._first else 0

    def __iter__(self) -> Iterator[Feed]:
        return (feed for feed, _ in self.labelled())

    def labelled(self) -> Iterator[Labelled]:
        """Go over feeds and labels.

        Raises:
            DataError: if they can't be made, or are others than on the first pass.
        """
        number, digest = 0, hashlib.sha256()
        for number, (feed, labels) in enumerate(self.make(), 1):
            if number > (self._first[0] if self._first else ENDLESS):
                raise self._differs(number)
            if self.watched:
                add_to(digest, feed)
            yield feed, labels
        found = number, digest.hexdigest()
        if self._first is None and number == 0:
            message = f"{self.source}: yielded nothing"
            raise DataError(message)
        self._first = self._first or found
        if found != self._first:
            raise self._differs(number)

    def _differs(self, number: int) -> DataError:
        if self._first is None:
            return DataError(f"{self.source}: has yielded {ENDLESS} samples and does not end; make it end")
        if number != self._first[0]:
            said = f"gave {self._first[0]} samples at first, and {'more' if number > self._first[0] else number} the next time"
        else:
            said = f"gave {number} samples each time, but not the same values"
        return DataError(
            f"{self.source}: {said}; calibration reads the data more than once, so every call must start again and yield "
            "the same samples; fix the seeds of its random numbers"
        )


@dataclass
class Batches:
    """Puts single rows together until a feed is full; what is left at the end is left out.

    Attributes:
        size: rows of a feed.
        rows: begins a pass over rows: arrays without the axis of the batch, and the row's label.
        fixed: arrays that are part of every feed.
        total: rows of the last pass.
    """

    size: int
    rows: Callable[[], Iterator[Row]]
    fixed: Mapping[str, Array] = field(default_factory=dict)
    total: int = 0

    def __call__(self) -> Iterator[Labelled]:
        """Begin a pass."""
        self.total = 0
        return self.filled(self.rows())

    def filled(self, rows: Iterable[Row]) -> Iterator[Labelled]:
        """Put these rows together."""
        waiting: list[Row] = []
        for row in rows:
            self.total += 1
            waiting.append(row)
            if len(waiting) < self.size:
                continue
            feeds, labels = zip(*waiting, strict=True)
            waiting = []
            stacked = {name: np.stack([feed[name] for feed in feeds]) for name in feeds[0]}
            known = [label for label in labels if label is not None]
            yield {**stacked, **self.fixed}, np.array(known, np.int64) if known else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know after a pass."""
        rest = self.total % self.size
        return (LEFT_OUT.format(rest=rest, total=self.total, size=self.size),) if rest else ()


def add_to(digest: hashlib._Hash, feed: Mapping[str, Array]) -> None:
    """Add names, dtypes, shapes and bytes of arrays to a hash."""
    for name, array in sorted(feed.items()):
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
