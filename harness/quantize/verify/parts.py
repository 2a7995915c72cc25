"""Parts of a model's outputs, and the sentences that name them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Kind = Literal["output", "slice", "sample"]
# What one slice is called, by its axis in the shape of one sample, [rows, columns] or [channels, height, width].
NOUNS: dict[tuple[int, int], str] = {(2, 0): "row", (2, 1): "column", (3, 0): "channel"}
ENTRY, ENTRIES = "entry", "entries"
NAMED = 6  # runs of slices, or outputs, that one sentence names


@dataclass(frozen=True)
class Part:
    """A part of an output: all of it, a run of slices along one axis, or one sample.

    Attributes:
        output: name of the output.
        axis: of the output's shape that the slices lie along; None for a whole output and a sample.
        first: index of the first slice of the run; None likewise.
        last: index of the last slice, which belongs to the run.
        sample: index over the rows of all feeds, from 0; None for a whole output and slices.
        sqnr_db: signal-to-quantization-noise ratio of the part, in dB; None for several slices and for integers.
        kind: what the part is.
        dead: the part is constant in the variant, over all samples and positions, and varies in fp32.
        fixed: of a dead part: its values differ by position, but none of them from sample to sample.
        noun: what one slice is called.
    """

    output: str
    axis: int | None = None
    first: int | None = None
    last: int | None = None
    sample: int | None = None
    sqnr_db: float | None = None
    kind: Kind = "output"
    dead: bool = False
    noun: str = ENTRY
    fixed: bool = False

    @property
    def name(self) -> str:
        """What the part is called, such as ``rows 4–9 of output0``."""
        return name_of([self])

    @property
    def sentence(self) -> str:
        """What is to be said of the part."""
        return sentence_of([self])


def noun(rank: int, axis: int) -> str:
    """What one slice is called.

    Args:
        rank: number of axes of one sample.
        axis: of the slices, in one sample.
    """
    return NOUNS.get((rank, axis), ENTRY)


def name_of(parts: Sequence[Part]) -> str:
    """Name whole outputs, or runs of slices along one axis of one output, or a single part."""
    part = parts[0]
    if part.kind == "sample":
        return f"sample {part.sample} of {part.output}"
    if part.kind == "output":
        return _listed([each.output for each in parts], "output")
    runs = _listed([str(each.first) if each.first == each.last else f"{each.first}–{each.last}" for each in parts], "run")
    word = part.noun if is_single(parts) else ENTRIES if part.noun == ENTRY else f"{part.noun}s"
    along = f" along axis {part.axis}" if part.noun == ENTRY else ""
    return f"{word} {runs}{along} of {part.output}"


def _listed(names: Sequence[str], what: str) -> str:
    """Name some, and count the others."""
    shown, hidden = list(names[:NAMED]), len(names) - NAMED
    if hidden > 0:
        shown.append(f"{hidden} more {what}{'s' if hidden > 1 else ''}")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def is_single(parts: Sequence[Part]) -> bool:
    """Say whether parts are one thing: an output, a sample or a single slice."""
    return len(parts) == 1 and parts[0].first == parts[0].last


def sentence_of(parts: Sequence[Part], reference: str = "fp32") -> str:
    """Say what is to be said of parts, all of which are dead in the same way, or of a single one.

    Args:
        parts: whole outputs, or runs of slices along one axis of one output.
        reference: what the model is called that the variant is compared with.
    """
    part, single = parts[0], is_single(parts)
    if part.dead:
        how = "the same for all samples" if part.fixed else "constant"
        verbs = ("is", "varies") if single else ("are", "vary")
        return f"{name_of(parts)} {verbs[0]} {how} in this variant but {verbs[1]} in {reference}"
    if part.sqnr_db is None:
        return f"{name_of(parts)} {'differs' if single else 'differ'} from {reference}"
    return f"{name_of(parts)} {'has' if single else 'have'} an SQNR of {in_db(part.sqnr_db)}"


def in_db(value: float) -> str:
    """A ratio in dB, in words where it is infinite."""
    return f"{round(value, 1) + 0.0:.1f} dB" if math.isfinite(value) else f"{'' if value > 0 else '-'}infinite"


def runs_of(indices: Iterable[int]) -> list[tuple[int, int]]:
    """Join indices that follow each other: 4, 5, 6, 9 are (4, 6) and (9, 9)."""
    found: list[tuple[int, int]] = []
    for index in indices:
        if found and index == found[-1][1] + 1:
            found[-1] = (found[-1][0], index)
        else:
            found.append((index, index))
    return found
