"""How much quantizing one operator type, or one node, costs when nothing else is quantized."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from onnx import NodeProto

    from harness.debug.trial import Clock, Trial, Trials


@dataclass(frozen=True)
class Sensitivity:
    """What became of the outputs when only some nodes were quantized (leave one in).

    Attributes:
        kind: ``op_type`` or ``node``.
        name: of the op type or the node.
        op_type: of the nodes.
        nodes: how many were quantized.
        merit: lowest SQNR of an output, a slice or a sample in dB, lower than -100 if any is dead or not finite; or the share of equal values
            where no output is floating-point; infinite if nothing changed, -infinite if the model could not be run.
        reason: why not.
        sqnr_db: of the worst output.
        worst_db: of the worst output, slice or sample.
        broken: ``dead`` or ``not finite``, where a part of the outputs is.
        notes: what is dead, not finite, or far worse than the rest.
    """

    kind: Literal["op_type", "node"]
    name: str
    op_type: str
    nodes: int
    merit: float
    reason: str | None = None
    sqnr_db: float | None = None
    worst_db: float | None = None
    broken: str | None = None
    notes: tuple[str, ...] = ()


def by_op_type(trials: Trials, suspicion: Mapping[str, int], clock: Clock) -> Iterator[Sensitivity]:
    """Quantize one op type at a time, as long as there is time, those of the likeliest culprits first.

    Args:
        trials: of the recipe.
        suspicion: the places of nodes among those that are suspected, from 0.
        clock: the limit.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for node in trials.nodes():
        groups[node.op_type].append(node.name)
    last = len(suspicion)
    for kind, names in sorted(groups.items(), key=lambda each: min(suspicion.get(name, last) for name in each[1])):
        if clock.left <= 0:
            return
        yield _sensitivity("op_type", kind, kind, len(names), trials.only(names))


def _sensitivity(kind: Literal["op_type", "node"], name: str, op_type: str, nodes: int, trial: Trial) -> Sensitivity:
    found = Sensitivity(kind, name, op_type, nodes, trial.merit, trial.reason)
    if trial.score is None:
        return found
    fidelity = trial.score.fidelity
    return replace(found, sqnr_db=fidelity.sqnr_db, worst_db=fidelity.worst_db, broken=fidelity.broken, notes=trial.score.notes)


def by_node(trials: Trials, kinds: Sequence[Sensitivity], suspicion: Mapping[str, int], clock: Clock) -> Iterator[Sensitivity]:
    """Quantize one node at a time, as long as there is time, the likeliest culprits first.

    Args:
        trials: of the recipe.
        kinds: what is known of op types; nodes of one that changed nothing are left out.
        suspicion: the places of nodes among those at whose tensors and weights most is lost, from 0.
        clock: the limit.
    """
    for node in order(trials, kinds, suspicion):
        if clock.left <= 0:
            return
        yield _sensitivity("node", node.name, node.op_type, 1, trials.only([node.name]))


def order(trials: Trials, kinds: Sequence[Sensitivity], suspicion: Mapping[str, int]) -> list[NodeProto]:
    """The nodes to scan: by what was lost at their tensors and weights, then by how sensitive their op type is."""
    merits = {kind.name: kind.merit for kind in kinds}
    scanned = [node for node in trials.nodes() if merits.get(node.op_type, 0.0) < math.inf]
    last = len(suspicion)
    return sorted(scanned, key=lambda node: (suspicion.get(node.name, last), merits.get(node.op_type, 0.0)))
