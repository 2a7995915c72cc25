"""Which nodes to leave in float: a greedy search, as the errors of single nodes do not add up."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.debug.proposal import as_toml
from harness.debug.trial import excluding
from harness.quantize.verify.figures import LIMIT_DB

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.debug.evaluation import Evaluation, Score
    from harness.debug.scan import Sensitivity
    from harness.debug.tensors import TensorLoss
    from harness.debug.trial import Clock, Trials
    from harness.quantize.recipe import Recipe

STEPS = 8  # proposals
WIDTH = 10  # candidates that are tried for each
SUSPECTS, KINDS = 4, 2  # of which so many are nodes at which most is lost, and op types of these
MOST = 0.5  # of the nodes may be left in float
FIRST, LAST = -1e6, 1e6  # before and after all candidates of which only the cost alone is known
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
    trials: Trials, whole: Evaluation, scanned: Sequence[Sensitivity], tensors: Sequence[TensorLoss], clock: Clock
) -> Iterator[Exclusion]:
    """Exclude nodes step by step, each time those that, tried together with all before, bring the outputs nearest to fp32's.

    At each step single nodes are tried, those first that gained most at the step before, at whose tensors most is lost, or that cost
    most alone: a node that is harmless alone can do damage beside others, as a Relu that is left to the range of the node before. If
    none of them helps, the nodes around one tensor are tried together, as a tensor stays rounded while any of its nodes is quantized; and
    then all nodes of one op type.

    Args:
        trials: of the recipe, over few samples.
        whole: the evaluation inputs that each proposal is scored with.
        scanned: the sensitivity of nodes.
        tensors: those that are suspected, in the order of the search.
        clock: the limit; nothing is tried when it is up.
    """
    merit = trials.without([]).merit
    # The search sees few samples; what helps those alone is not proposed.
    proven = trials.without([], whole).merit
    excluded: tuple[str, ...] = ()
    # A single silent channel is dead in many a tensor.
    least = max((tensor.dead_share for tensor in tensors), default=0.0) / 2
    dead = [tensor.name for tensor in tensors if tensor.dead and tensor.dead_share >= least] if merit < -LIMIT_DB else []
    search = _Search(trials, _singles(trials, scanned, tensors), _groups(trials, [tensor.name for tensor in tensors], dead))
    for _ in range(STEPS):
        found = search.best(excluded, merit, clock)
        if found is None:
            return
        added, reached = found
        trial = trials.without((*excluded, *added), whole)
        if trial.score is None or trial.merit < proven + search.least:
            search.drop(added, excluded)
            continue
        excluded, merit, proven = (*excluded, *added), reached, trial.merit
        yield Exclusion(added, excluded, trial.size, trial.score, as_toml(named(trials.recipe, excluded)))


def named(recipe: Recipe, nodes: Sequence[str]) -> Recipe:
    """The recipe with these nodes excluded, under a name of its own that a study may hold."""
    suffix = f"-exclude{len(nodes)}"
    changed = excluding(recipe, nodes)
    return changed.model_copy(update={"name": recipe.name[: 100 - len(suffix)] + suffix})


class _Search:
    """Candidates, and what is known of each.

    Attributes:
        least: a smaller gain is not worth it.
    """

    def __init__(self, trials: Trials, singles: dict[tuple[str, ...], float], groups: list[dict[tuple[str, ...], float]]) -> None:
        self._trials = trials
        self.least = LEAST_GAIN_DB if trials.evaluation.has_floats else LEAST_GAIN_SHARE
        self._most = len(trials.nodes()) * MOST
        # A small number is promising: the merit of a node alone, and once tried, minus what excluding it gained.
        self._pools = [singles, *groups]

    def drop(self, names: tuple[str, ...], excluded: tuple[str, ...]) -> None:
        """Try a candidate no more."""
        for pool in self._pools:
            for known in [each for each in pool if set(each) - set(excluded) == set(names)]:
                del pool[known]

    def best(self, excluded: tuple[str, ...], merit: float, clock: Clock) -> tuple[tuple[str, ...], float] | None:
        """The nodes that gain most of those that there is time for, and the merit without them; None if none gains enough."""
        for pool in self._pools:
            tried: list[tuple[float, float, tuple[str, ...]]] = []
            waiting = [names for names in sorted(pool, key=pool.__getitem__) if not set(names) <= set(excluded)]
            # A variant that is mostly float is no proposal.
            fitting = [names for names in waiting if len({*names, *excluded}) <= self._most]
            for names in fitting[:WIDTH]:
                if clock.left <= 0:
                    break
                more = tuple(name for name in names if name not in excluded)
                found = self._trials.without((*excluded, *more)).merit
                gain = found - merit if math.isfinite(found) or found > 0 else -math.inf
                pool[names] = -gain if gain >= self.least else LAST - gain
                if gain >= max(self.least, self.least * len(more) / 2):
                    # Of groups the one that gains most for each node: all of them together would gain most, and quantize nothing.
                    tried.append((gain / len(more), found, more))
                    # What brings dead parts back is not outdone by what does not.
                    if merit < -LIMIT_DB < found:
                        return more, found
            if tried:
                _, found, more = max(tried)
                return more, found
            if clock.left <= 0:
                return None
        return None


def _singles(trials: Trials, scanned: Sequence[Sensitivity], tensors: Sequence[TensorLoss]) -> dict[tuple[str, ...], float]:
    """The makers of some suspected tensors, and all nodes of their kinds; then single nodes, those that cost most alone first."""
    nodes = {node.name: node for node in trials.nodes()}
    suspects = [name for name in dict.fromkeys(tensor.node for tensor in tensors) if name in nodes][:SUSPECTS]
    kinds = list(dict.fromkeys(nodes[name].op_type for name in suspects))[:KINDS]
    first = [(name,) for name in suspects] + [tuple(name for name in nodes if nodes[name].op_type == kind) for kind in kinds]
    found: dict[tuple[str, ...], float] = {(node.name,): node.merit for node in scanned}
    return found | {names: FIRST + position for position, names in enumerate(first)}


def _groups(trials: Trials, tensors: Sequence[str], dead: Sequence[str]) -> list[dict[tuple[str, ...], float]]:
    """The nodes around all tensors with dead parts, the nodes around each tensor, and those of each op type, where there are several."""
    nodes = trials.nodes()
    around: dict[tuple[str, ...], float] = {}
    # What is lost at a Concat stays lost while any node that passes it on is quantized, such as the Split behind it.
    passed = tuple(node.name for node in nodes if not {*node.input, *node.output}.isdisjoint(dead))
    if len(passed) > 1:
        around[passed] = FIRST
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
