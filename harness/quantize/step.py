"""What a preparation step is, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from onnx import ModelProto

    from harness.quantize.recipe import Recipe

SHOWN = 3  # names in a note


@dataclass(frozen=True)
class Changes:
    """What steps did to a model.

    Attributes:
        notes: sentences for the reader of a variant, each with the step's key and the names of nodes or tensors.
        nodes: new names of nodes of the main graph, by their old ones; only those that changed.
        tensors: the names under which a tensor is known now, by its old name; only those that changed. A constant that was
            copied has several.
    """

    notes: tuple[str, ...] = ()
    nodes: Mapping[str, str] = field(default_factory=dict)
    tensors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def then(self, later: Changes) -> Changes:
        """Combine with changes that were made afterwards."""
        nodes = {old: later.nodes.get(new, new) for old, new in self.nodes.items()}
        nodes |= {old: new for old, new in later.nodes.items() if old not in self.nodes.values()}
        tensors = {
            old: tuple(name for each in new for name in later.tensors.get(each, (each,))) for old, new in self.tensors.items()
        }
        moved = {name for new in self.tensors.values() for name in new}
        tensors |= {old: new for old, new in later.tensors.items() if old not in moved}
        return Changes((*self.notes, *later.notes), nodes, tensors)

    def node(self, name: str) -> str:
        """Give the present name of a node."""
        return self.nodes.get(name, name)

    def tensor(self, name: str) -> tuple[str, ...]:
        """Give the present names of a tensor."""
        return self.tensors.get(name, (name,))


@dataclass(frozen=True)
class Decision:
    """What a recipe's tool must leave as it is.

    Attributes:
        float_nodes: names of nodes of the main graph that stay in float.
        notes: sentences for the reader of a variant.
    """

    float_nodes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __or__(self, other: Decision) -> Decision:
        """Combine two decisions."""
        return Decision(
            tuple(dict.fromkeys((*self.float_nodes, *other.float_nodes))), tuple(dict.fromkeys((*self.notes, *other.notes)))
        )


@dataclass(frozen=True)
class Step:
    """One thing that is done to a model before, or around, onnxruntime's tools.

    A step rewrites the model, decides what a tool must leave as it is, or patches the tool while it works.

    Attributes:
        key: in kebab-case, as ``skip_steps`` names it.
        summary: what the step does, in whole sentences.
        source: the file of onnxruntime or the issue that shows why it is needed.
        cost: what it costs in size and speed.
        methods: those whose recipes it is for.
        find: looks at a model, whose large tensors may be missing, and lists what is to be done; nothing is an empty answer.
            Recipes that get equal answers share the rewritten model, so an answer depends on the recipe only as far as the
            rewritten model does.
        rewrite: does, in place, what ``find`` listed; the model is complete.
        decide: decides on the nodes of the model that is quantized, by the calibrated ranges. There are none for recipes
            without calibration, and where SmoothQuant replaces it.
        patch: replaces parts of a recipe's tool until it is done; what it then finds worth a note it appends to the list.
        on: the model that ``find`` and ``rewrite`` work on: the user's ``source`` before onnxruntime's preparation, or the
            ``prepared`` one. Steps of ``fp16`` work on the user's model in either case, as no preparation precedes it.
    """

    key: str
    summary: str
    source: str
    cost: str
    methods: frozenset[str]
    find: Callable[[ModelProto, Recipe], Sequence[Hashable]] | None = None
    rewrite: Callable[[ModelProto, Sequence[Any]], Changes] | None = None
    decide: Callable[[ModelProto, Recipe, Mapping[str, tuple[float, float]] | None], Decision] | None = None
    patch: Callable[[Recipe, list[str]], AbstractContextManager[None]] | None = None
    on: Literal["source", "prepared"] = "prepared"

    def applies(self, recipe: Recipe) -> bool:
        """Say whether a recipe wants the step."""
        return recipe.method in self.methods and self.key not in recipe.skip_steps


def staying(names: Iterable[str]) -> str:
    """Say which nodes stay as they are: ``'a' stays``, or ``'a', 'b' stay``; the rest of the sentence says where, and why."""
    every = list(names)
    return f"{listed(every)} {'stays' if len(every) == 1 else 'stay'}"


def listed(names: Iterable[str]) -> str:
    """List names for a note, each once, the first of many: ``'a', 'b' and 3 more``."""
    every = [f"'{name}'" for name in dict.fromkeys(names)]
    return ", ".join(every[:SHOWN]) + (f" and {len(every) - SHOWN} more" if len(every) > SHOWN else "")
