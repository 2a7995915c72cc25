"""What is known of the variants of a study and of the one that is explained."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.debug.evaluation import Score
    from harness.debug.exclusion import Exclusion
    from harness.debug.scan import Sensitivity
    from harness.debug.tensors import TensorLoss
    from harness.debug.weights import WeightLoss
    from harness.quantize.recipe import Variant


@dataclass(frozen=True)
class Compared:
    """A variant beside fp32.

    Attributes:
        state: ``made``, ``impossible``, or ``failed``: it could not be made or run.
        score: of its outputs, where it was made.
        reason: why there is none, or no figure of the study's own.
    """

    variant: Variant
    state: str
    score: Score | None = None
    reason: str | None = None


@dataclass
class Diagnosis:
    """What was found.

    Attributes:
        compared: each variant that was asked for.
        chosen: the one that is explained: whose outputs are farthest from fp32's.
        tensors: that differ, the worst first; exact: how many do not.
        weights: that differ, the worst first.
        op_types: what quantizing each alone costs, the worst first; nodes likewise.
        scannable: how many nodes could be scanned.
        exclusions: proposals, each with more nodes in float than the one before.
        samples: how many feeds the tensors and trials are over.
        compared_samples: how many feeds the variants' outputs and the proposals are compared over.
        evaluation_samples: how many there are.
        notes: what a reader must know, such as what was left out when the time was up.
    """

    compared: list[Compared] = field(default_factory=list)
    chosen: Compared | None = None
    tensors: list[TensorLoss] = field(default_factory=list)
    exact: int = 0
    weights: list[WeightLoss] = field(default_factory=list)
    op_types: list[Sensitivity] = field(default_factory=list)
    nodes: list[Sensitivity] = field(default_factory=list)
    scannable: int = 0
    exclusions: list[Exclusion] = field(default_factory=list)
    samples: int = 0
    compared_samples: int = 0
    evaluation_samples: int = 0
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON can say it: None for infinity and NaN."""
        chosen = self.chosen
        rest = {
            each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.name not in {"compared", "chosen"}
        }
        return {
            "variants": [
                {
                    "name": each.variant.name,
                    "state": each.state,
                    "size": each.variant.size,
                    "reason": each.reason,
                    **(_plain(each.score) or {}),
                    "notes": [*each.variant.notes, *(each.score.notes if each.score else ())],
                }
                for each in self.compared
            ],
            "variant": chosen.variant.name if chosen else None,
            **{key: _plain(value) for key, value in rest.items()},
        }


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever JSON can say
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
