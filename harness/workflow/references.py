"""The references of a gate: each variant is compared with the fp32 model that it was made from.

Where both sides are finished models, no fp32 model is known: there the baseline's own outputs are what the candidate must resemble.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import ModelError
from harness.judge import faults
from harness.measure import pairs
from harness.measure.accuracy import Reference
from harness.measure.pairs import REFERENCE
from harness.quantize import metric
from harness.study.study import GIVEN

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from harness.measure.events import FidelityLine
    from harness.measure.plan import Case
    from harness.workflow.baselines import BaselineSource
    from harness.workflow.preflight import Preflight

BASELINE = faults.BASELINE


@dataclass(frozen=True)
class References:
    """The references of both sides.

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


def of(preflight: Preflight, source: BaselineSource) -> References:
    """Find the references of both sides; a baseline that was made of another model than the candidate is compared with its own.

    Raises:
        DataError: if the study's metric fails on a baseline's outputs.
    """
    own, same = preflight.references, _is_same(preflight, source)
    if source.runtime is not None or (same and not preflight.study.is_given):
        return References(preflight.dims, own, own, {})
    if preflight.study.is_given:
        if same:
            found = [reference.named(BASELINE) for reference in own]
            return References(preflight.dims, tuple(found), tuple(found), {})
        both = _run(preflight, _path(source, GIVEN), BASELINE)
        if isinstance(both, str):
            return References(preflight.dims, own, own, dict.fromkeys(("candidate", "baseline"), both))
        return References(preflight.dims, both, both, {})
    theirs = _run(preflight, _path(source, REFERENCE), REFERENCE)
    if isinstance(theirs, str):
        return References(preflight.dims, own, own, {"baseline": theirs})
    return References(preflight.dims, own, theirs, {})


def _is_same(preflight: Preflight, source: BaselineSource) -> bool:
    """Whether both sides were made of the same model file."""
    return source.baseline.model_sha256 == preflight.model.sha256


def _path(source: BaselineSource, variant: str) -> Path | None:
    """The baseline's own file of a variant; the bare model, if it is one."""
    if source.model is not None:
        return source.model.path
    found: Sequence[Path] = [each.path for each in source.baseline.variants if each.path and each.name == variant]
    return found[0] if found else None


def _run(preflight: Preflight, path: Path | None, name: str) -> tuple[Reference, ...] | str:
    """Run a model on the evaluation data, or say why there is nothing to compare with."""
    if path is None:
        return "the baseline has no fp32 model to compare its outputs with; save a baseline from a run that includes fp32"
    section = preflight.study.model
    figure = metric.load(section.metric) if section.metric else None
    try:
        return tuple(Reference(path, samples, figure, section.output, name) for samples in preflight.evaluation)
    except ModelError as exc:
        return f"the outputs can't be compared: {exc}"
