"""How near a variant's outputs are to the reference's, in figures and in sentences."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from harness.quantize.verify.output import OutputFidelity  # noqa: TC001 - pydantic reads the types of the fields
from harness.quantize.verify.parts import Part, in_db, sentence_of

# A part that is this much worse than the worst output is worth a sentence.
TELLING_DB = 10.0
# SQNR is taken to lie between -100 and 100 dB where some values are dead or not finite; such a variant loses more than all of that, and
# this much again when all of its values are such.
LIMIT_DB = 100.0


@dataclass(frozen=True)
class Fidelity:
    """Distances of the floating-point outputs of all feeds, and agreement of the classes.

    The distances are computed in float64 over the values that are finite on both sides; they are None when no output is floating-point. Equal infinities, and NaN on both sides, are equal.

    Attributes:
        mse: mean squared error over all outputs.
        max_error: largest absolute error.
        mean_relative_error: Σ |ref - x| / Σ |ref| over all outputs, the error of the mean value, which zeros in the reference don't spoil.
        sqnr_db: signal-to-quantization-noise ratio of the worst output, 10·log10(Σ ref² / Σ (ref - x)²), in dB; the same as 20·log10 of
            the ratio of the norms in ``onnxruntime/quantization/qdq_loss_debug.py``; infinite when there is no noise, -infinite if no value
            of an output can be compared.
        cosine: Σ ref·x / √(Σ ref² · Σ x²), of the output where it is lowest.
        identical: all outputs, integer ones too, are equal bit for bit but for the sign of zero and kinds of NaN; False if an output is
            not compared.
        nan_count: values of the variant's floating-point outputs that are NaN.
        top1_agreement: share of rows whose largest class is the reference's; None if the first floating-point output is no
            table [batch, classes].
        top1_accuracy: share of rows whose largest class is the label; None without labels or classes.
        kl_divergence: mean over the rows of the first floating-point output of Σ p·ln(p / q), in nats, p being the softmax of the
            reference's row and q that of the variant's; None if that output is no table [batch, classes] or [batch, positions,
            classes]; infinite where the variant gives -infinity to a class that fp32 does not.
        probabilities: the rows of the reference are probabilities already (none negative, sums of 1): p and q are the rows as they
            are, q's cut to what is possible and scaled to a sum of 1, and a 0 counts as 1e-7.
        inf_count: values of the variant's floating-point outputs that are infinite.
        reference_nan_count: the same as ``nan_count`` of the reference.
        reference_inf_count: the same as ``inf_count`` of the reference.
        values: number of values of all floating-point outputs.
        unequal_count: values that are not finite on one side, or on both in different ways.
        equal: share of the values of integer outputs that are the reference's; None without such.
        outputs: the same figures for each output.
        worst_slice: the slice of the lowest SQNR along an axis of at most 256 entries; None if no slice differs.
        worst_sample: the sample of the lowest SQNR; None if there are no two samples, or none differs.
        dead: what is constant in the variant and varies in fp32, along one axis of each output.
        dead_share: share of the floating-point values that lie in dead parts.
    """

    mse: float | None = None
    max_error: float | None = None
    mean_relative_error: float | None = None
    sqnr_db: float | None = None
    cosine: float | None = None
    identical: bool = False
    nan_count: int = 0
    top1_agreement: float | None = None
    top1_accuracy: float | None = None
    kl_divergence: float | None = None
    probabilities: bool = False
    inf_count: int = 0
    reference_nan_count: int = 0
    reference_inf_count: int = 0
    values: int = 0
    unequal_count: int = 0
    equal: float | None = None
    outputs: tuple[OutputFidelity, ...] = ()
    worst_slice: Part | None = None
    worst_sample: Part | None = None
    dead: tuple[Part, ...] = ()
    dead_share: float = 0.0

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know: dead parts, parts that are far worse than the worst output, values that are not finite."""
        return self.notes_against("fp32")

    def notes_against(self, reference: str) -> tuple[str, ...]:
        """As :attr:`notes`, where the reference is not fp32 but another model."""
        runs: dict[tuple[str | None, bool], list[Part]] = defaultdict(list)
        for part in self.dead:
            runs[None if part.kind == "output" else part.output, part.fixed].append(part)
        found = [sentence_of(parts, reference) for parts in runs.values()]
        found += [
            f"{each.name} is 0 everywhere in {reference} and differs from 0 by up to {each.max_error:.2g} in this variant, so it has no SQNR"
            for each in self.outputs
            if each.sqnr_db == -math.inf and each.max_error is not None and each.max_error > 0
        ]
        for worst in (self.worst_slice, self.worst_sample):
            if worst is not None and self._is_telling(worst):
                whole = next((each.sqnr_db for each in self.outputs if each.name == worst.output), self.sqnr_db)
                found.append(
                    f"{sentence_of([worst], reference)}, {worst.output} as a whole {in_db(math.inf if whole is None else whole)}"
                )
        if self.unequal_count or self.nan_count > self.reference_nan_count:
            wrong, expected = self.nan_count + self.inf_count, self.reference_nan_count + self.reference_inf_count
            found.append(
                f"{wrong} of {self.values} output values are not finite in this variant ({reference}: {expected or 'none'})"
            )
        return tuple(found)

    @property
    def worst_db(self) -> float | None:
        """The lowest SQNR of an output, a slice or a sample, in dB; None without floating-point outputs."""
        if self.sqnr_db is None:
            return None
        parts = [part.sqnr_db for part in (self.worst_slice, self.worst_sample) if part is not None and part.sqnr_db is not None]
        return min([self.sqnr_db, *parts])

    @property
    def is_exact(self) -> bool:
        """Whether all values that are compared are equal; there may be outputs that are not."""
        floats = self.sqnr_db is None or (self.mse == 0 and not self.unequal_count)
        return bool(self.outputs) and floats and self.equal in {None, 1.0}

    @property
    def broken(self) -> str | None:
        """How the outputs are broken: ``not finite`` or ``dead``; None if they are not."""
        return "not finite" if self.unequal_count else "dead" if self.dead else None

    @property
    def merit(self) -> float:
        """What a search goes by: the lowest SQNR of an output, slice or sample, in dB; without floating-point outputs the share of equal values.

        With a dead part, or values that are not finite, it is below -100, the more of them the lower, so that each step of a search that
        mends some of them gains.
        """
        if self.sqnr_db is None:
            return -math.inf if self.equal is None else self.equal
        worst = self.worst_db
        if worst is None or math.isnan(worst):
            worst = -math.inf
        if self.broken is None:
            return worst
        share = self.dead_share + (self.unequal_count / self.values if self.values else 0.0)
        return min(max(worst, -LIMIT_DB), LIMIT_DB) - LIMIT_DB * (2 + share)

    def _is_telling(self, part: Part) -> bool:
        """Whether a part is far below the worst output, and not said to be dead already."""
        if part.sqnr_db is None or self.sqnr_db is None or part.sqnr_db >= self.sqnr_db - TELLING_DB:
            return False
        return not any(_covers(dead, part) for dead in self.dead)

    def as_json(self) -> dict[str, Any]:
        """Return the fields and the notes, with None for what JSON has no number for: infinity and NaN."""
        return {**_plain(self), "notes": list(self.notes)}


def _covers(dead: Part, part: Part) -> bool:
    """Whether a dead part holds a slice, or is the output that it belongs to."""
    if dead.output != part.output or dead.kind == "output":
        return dead.output == part.output
    if dead.axis != part.axis or dead.first is None or dead.last is None or part.first is None:
        return False
    return dead.first <= part.first <= dead.last


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever JSON can say
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
