"""One sample and what the float model makes of it: every variant that is made runs on it once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness import files

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Array = NDArray[Any]

FED, GIVEN, SECONDS = "feed/", "output/", "seconds"
STORED = "fiubU"  # kinds of arrays that a file of numpy keeps without pickling


@dataclass(frozen=True)
class Sample:
    """A sample.

    Attributes:
        feed: one array per input.
        outputs: the numeric outputs of the float model by name, without those that differ from one run to the next.
        seconds: what one inference of the float model took.
    """

    feed: Mapping[str, Array]
    outputs: Mapping[str, Array]
    seconds: float

    @property
    def is_storable(self) -> bool:
        """Whether a file can hold it, so that all processes of a build check the same."""
        return all(value.dtype.kind in STORED for value in (*self.feed.values(), *self.outputs.values()))

    def file(self, folder: Path) -> Path:
        """Write it into a folder for other processes, unless it is there already; gives the file."""
        path = folder / "sample.npz"
        if not path.exists():
            arrays = {f"{FED}{name}": value for name, value in self.feed.items()}
            arrays |= {f"{GIVEN}{name}": value for name, value in self.outputs.items()}
            with files.replacing(path) as beside, beside.open("wb") as stream:
                np.savez(stream, allow_pickle=False, **{SECONDS: np.float64(self.seconds)}, **arrays)
        return path

    @classmethod
    def load(cls, path: Path) -> Sample:
        """Read what :meth:`file` has written."""
        with np.load(path, allow_pickle=False) as stored:
            feed, outputs = (
                {name.removeprefix(prefix): stored[name] for name in stored.files if name.startswith(prefix)}
                for prefix in (FED, GIVEN)
            )
            return cls(feed, outputs, float(stored[SECONDS]))


def digest(feed: Mapping[str, Array]) -> str:
    """Hash the values of a feed."""
    found = hashlib.sha256()
    for name, value in sorted(feed.items()):
        content = np.ascontiguousarray(value)
        found.update(f"{name} {content.dtype} {content.shape} ".encode())
        found.update(repr(content.tolist()).encode() if content.dtype.hasobject else content.tobytes())
    return found.hexdigest()
