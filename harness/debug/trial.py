"""A recipe tried with other nodes: only some quantized, or some more left in float."""

from __future__ import annotations

import glob
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import onnx

from harness.quantize.methods import retry
from harness.quantize.model import storage
from harness.quantize.reasons import reason_of
from harness.quantize.target_nodes import op_types

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from onnx import NodeProto

    from harness.debug.evaluation import Evaluation, Score
    from harness.quantize.context import BuildContext
    from harness.quantize.recipe import Recipe


class Clock:
    """A limit of time, in seconds from its making; shares of it can be given to parts."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds; below zero when the time is up."""
        return self._end - time.monotonic()

    def share(self, part: float) -> Clock:
        """A clock for a share of what is left."""
        return Clock(self.left * part)


@dataclass(frozen=True)
class Trial:
    """A model that was made and run.

    Attributes:
        size: bytes.
        score: of its outputs; None if it could not be made, loaded or run.
        reason: why not.
    """

    size: int | None
    score: Score | None
    reason: str | None = None

    @property
    def merit(self) -> float:
        """What a search goes by: see :attr:`harness.debug.evaluation.Score.merit`."""
        return self.score.merit if self.score is not None else -float("inf")


@dataclass
class Trials:
    """Makes variants of one recipe, one after the other in the same file.

    Attributes:
        recipe: what is varied.
        context: of the model; its calibration is shared by all trials.
        evaluation: the few samples that each is run on.
        made: how many there were.
    """

    recipe: Recipe
    context: BuildContext
    evaluation: Evaluation
    made: int = 0
    _file: Path = field(init=False, repr=False)

    def __post_init__(self) -> None:
        folder = self.context.folder / "trials"
        folder.mkdir(exist_ok=True)
        self._file = folder / "trial.onnx"

    def nodes(self) -> list[NodeProto]:
        """The nodes of the main graph that the recipe may quantize, whether or not it does, as their names are in the study."""
        # fp16 works on operators of any type.
        kinds, context = op_types(self.recipe) or None, self.context
        by_source = not self.recipe.is_prepared
        excluded = set((context.excluded_of_source if by_source else context.excluded)(self.recipe))
        chosen = set(context.chosen(self.recipe))
        graph = (context.source if by_source else context.prepared).proto.graph
        return [
            node
            for node in graph.node
            if (kinds is None or node.op_type in kinds)
            and node.op_type != "Constant"
            and node.name
            and node.name not in excluded
            and (not chosen or node.name in chosen)
        ]

    def only(self, names: Sequence[str]) -> Trial:
        """Quantize these nodes and no others."""
        if "nodes" in self.recipe.spec.own_keys():
            return self._tried(self.recipe.model_copy(update={"nodes": tuple(map(glob.escape, names))}), as_written=True)
        wanted = set(names)
        others = [node.name for node in self.nodes() if node.name not in wanted]
        return self._tried(excluding(self.recipe, others), as_written=True)

    def without(self, names: Sequence[str], evaluation: Evaluation | None = None) -> Trial:
        """Leave these nodes in float, beside those that the recipe excludes."""
        return self._tried(excluding(self.recipe, names), evaluation)

    def _tried(self, recipe: Recipe, evaluation: Evaluation | None = None, *, as_written: bool = False) -> Trial:
        self.made += 1
        size = None
        try:
            retry.make(recipe, self.context, self._file)
            size = storage.describe(self._file).size
            return Trial(size, (evaluation or self.evaluation).score(self._file, as_written=as_written))
        except Exception as exc:  # noqa: BLE001 - the tools raise anything; the others are still to be tried
            return Trial(size, None, reason_of(exc, [self._file.parent, self.context.folder]))
        finally:
            for leftover in self._file.parent.iterdir():
                leftover.unlink()


def excluding(recipe: Recipe, names: Collection[str]) -> Recipe:
    """The same recipe with further nodes left in float."""
    more = tuple(glob.escape(name) for name in names)
    return recipe.model_copy(update={"exclude_nodes": (*recipe.exclude_nodes, *more)})


def has_bodies(model: onnx.ModelProto) -> bool:
    """Say whether nodes of a model hold graphs of their own, as If, Loop and Scan do."""
    kinds = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
    return any(attribute.type in kinds for node in model.graph.node for attribute in node.attribute)
