"""Which nodes to leave in float: a greedy search, as the errors of single nodes do not add up."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.quantize.debug.proposal import as_toml
from harness.quantize.debug.trial import excluding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.quantize.debug.evaluation import Evaluation, Score
    from harness.quantize.debug.scan import Sensitivity
    from harness.quantize.debug.trial import Clock, Trials
    from harness.quantize.recipe import Recipe

STEPS = 8  # proposals
WIDTH = 8  # candidates that are tried for each
LAST = 1e6  # after all candidates that were not tried yet
LEAST_GAIN_DB, LEAST_GAIN_SHARE = 0.5, 0.002  # a smaller gain is not worth a node in float


@dataclass(frozen=True)
class Exclusion:
    """A proposal: the recipe with some nodes left in float, made and evaluated.

    Attributes:
        added: the nodes that this step leaves in float beside those of the steps before.
        nodes: all of them.
        size: bytes.
        score: over the evaluation inputs.
        toml: a ``[[variant]]`` for the study.
    """

    added: tuple[str, ...]
    nodes: tuple[str, ...]
    size: int | None
    score: Score
    toml: str


def propose(
    trials: Trials, whole: Evaluation, scanned: Sequence[Sensitivity], tensors: Sequence[str], clock: Clock
) -> Iterator[Exclusion]:
    """Exclude nodes step by step, each time those that, tried together with all before, bring the outputs nearest to fp32's.

    At each step single nodes are tried, those first that gained most at the step before, or that cost most alone. If none of them
    helps, the nodes around one tensor are tried together, as a tensor stays rounded while any of its nodes is quantized; and
    then all nodes of one op type.

    Args:
        trials: of the recipe, over few samples.
        whole: the evaluation inputs that each proposal is scored with.
        scanned: the sensitivity of nodes.
        tensors: names of the worst tensors, in the order of the search.
        clock: the limit; nothing is tried when it is up.
    """
    merit = trials.without([]).merit
    excluded: tuple[str, ...] = ()
    search = _Search(trials, {(node.name,): node.merit for node in scanned}, _groups(trials, tensors))
    for _ in range(STEPS):
        found = search.best(excluded, merit, clock)
        if found is None:
            return
        added, merit = found
        excluded = (*excluded, *added)
        trial = trials.without(excluded, whole)
        if trial.score is None:
            return
        yield Exclusion(added, excluded, trial.size, trial.score, as_toml(named(trials.recipe, excluded)))


def named(recipe: Recipe, nodes: Sequence[str]) -> Recipe:
    """The recipe with these nodes excluded, under a name of its own that a study may hold."""
    suffix = f"-exclude{len(nodes)}"
    changed = excluding(recipe, nodes)
    return changed.model_copy(update={"name": recipe.name[: 100 - len(suffix)] + suffix})


class _Search:
    """Candidates, and what is known of each."""

    def __init__(self, trials: Trials, singles: dict[tuple[str, ...], float], groups: list[dict[tuple[str, ...], float]]) -> None:
        self._trials = trials
        # A small number is promising: the merit of a node alone, and once tried, minus what excluding it gained.
        self._pools = [singles, *groups]

    def best(self, excluded: tuple[str, ...], merit: float, clock: Clock) -> tuple[tuple[str, ...], float] | None:
        """The nodes that gain most, and the merit without them; None if none gains enough or the time is up."""
        least = LEAST_GAIN_DB if self._trials.evaluation.has_floats else LEAST_GAIN_SHARE
        for pool in self._pools:
            tried: list[tuple[float, float, tuple[str, ...]]] = []
            waiting = [names for names in sorted(pool, key=pool.__getitem__) if not set(names) <= set(excluded)]
            for names in waiting[:WIDTH]:
                if clock.left <= 0:
                    return None
                more = tuple(name for name in names if name not in excluded)
                found = self._trials.without((*excluded, *more)).merit
                gain = found - merit if math.isfinite(found) or found > 0 else -math.inf
                pool[names] = -gain if gain >= least else LAST - gain
                if gain >= least:
                    # Of groups the one that gains most for each node: all of them together would gain most, and quantize nothing.
                    tried.append((gain / len(more), found, more))
            if tried:
                _, found, more = max(tried)
                return more, found
        return None


def _groups(trials: Trials, tensors: Sequence[str]) -> list[dict[tuple[str, ...], float]]:
    """The nodes around each tensor, and those of each op type, where there are several."""
    nodes = trials.nodes()
    around: dict[tuple[str, ...], float] = {}
    for position, tensor in enumerate(tensors):
        touching = tuple(node.name for node in nodes if tensor in node.input or tensor in node.output)
        if len(touching) > 1:
            around.setdefault(touching, float(position))
    kinds: dict[str, list[str]] = defaultdict(list)
    for node in nodes:
        kinds[node.op_type].append(node.name)
    # Few nodes first.
    types = {tuple(names): float(len(names)) for names in kinds.values() if 1 < len(names) < len(nodes)}
    return [around, types]
