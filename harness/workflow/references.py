"""Which model's outputs each side of a gate is compared with: each variant with the fp32 model that it was made of.

Where both sides are finished models, no fp32 model is known: there the baseline's own outputs are what the candidate must resemble.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import ModelError
from harness.judge import faults
from harness.judge.rows import REFERENCE
from harness.measure import pairs
from harness.measure.accuracy import Reference
from harness.quantize import metric
from harness.study.study import GIVEN

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from harness.measure.events import FidelityLine
    from harness.measure.plan import Case
    from harness.workflow.baselines import Rival
    from harness.workflow.preflight import Question

BASELINE = faults.BASELINE


@dataclass(frozen=True)
class References:
    """What the outputs of both sides are compared with.

    Attributes:
        dims: the symbolic dimensions' values, one set for each reference of a side.
        candidate: the references of the candidate's cases; baseline: of the baseline's.
        withheld: why a side's outputs can't be judged, by side: its figures against a reference are left out. ``candidate`` or ``baseline``.
    """

    dims: tuple[dict[str, int], ...]
    candidate: tuple[Reference, ...]
    baseline: tuple[Reference, ...]
    withheld: dict[str, str]

    def compare(self, device: str, case: Case, outputs: bytes, differing: Collection[int] = ()) -> FidelityLine:
        """Compare a case's outputs with the reference of its side; as :meth:`Reference.compare`."""
        side = "baseline" if case.variant.startswith(pairs.BASELINE) else "candidate"
        found = self.baseline if side == "baseline" else self.candidate
        line = found[self.dims.index(dict(case.dims))].compare(device, case, outputs, differing)
        return line.without_distances(self.withheld[side]) if side in self.withheld else line


def of(question: Question, rival: Rival) -> References:
    """Find the references of both sides; a baseline that was made of another model than the candidate is compared with its own.

    Raises:
        DataError: if the study's metric fails on a baseline's outputs.
    """
    own, same = question.references, _is_same(question, rival)
    if rival.runtime is not None or (same and not question.study.is_given):
        return References(question.dims, own, own, {})
    if question.study.is_given:
        if same:
            found = [reference.named(BASELINE) for reference in own]
            return References(question.dims, tuple(found), tuple(found), {})
        both = _run(question, _path(rival, GIVEN), BASELINE)
        if isinstance(both, str):
            return References(question.dims, own, own, dict.fromkeys(("candidate", "baseline"), both))
        return References(question.dims, both, both, {})
    theirs = _run(question, _path(rival, REFERENCE), REFERENCE)
    if isinstance(theirs, str):
        return References(question.dims, own, own, {"baseline": theirs})
    return References(question.dims, own, theirs, {})


def _is_same(question: Question, rival: Rival) -> bool:
    """Whether both sides were made of the same model file."""
    return rival.baseline.model_sha256 == question.model.sha256


def _path(rival: Rival, variant: str) -> Path | None:
    """The baseline's own file of a variant; the bare model, if it is one."""
    if rival.model is not None:
        return rival.model.path
    found: Sequence[Path] = [each.path for each in rival.baseline.variants if each.path and each.name == variant]
    return found[0] if found else None


def _run(question: Question, path: Path | None, name: str) -> tuple[Reference, ...] | str:
    """Run a model on the evaluation data, or say why there is nothing to compare with."""
    if path is None:
        return "the baseline has no fp32 model to compare its outputs with; save a baseline from a run that includes fp32"
    section = question.study.model
    figure = metric.load(section.metric) if section.metric else None
    try:
        return tuple(Reference(path, samples, figure, section.output, name) for samples in question.evaluation)
    except ModelError as exc:
        return f"the outputs can't be compared: {exc}"
