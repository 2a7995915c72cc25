"""Names of nodes: written against the user's model, meant for the prepared one, where some were folded into others.

The preparation puts BatchNormalization into Conv, joins MatMul and Add into a Gemm of another name, and drops what does nothing. A
name that onnxruntime does not find it ignores without a word (microsoft/onnxruntime#19503).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING

from harness.quantize.model.graph import inside
from harness.quantize.reasons import RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from onnx import GraphProto, NodeProto

SHOWN = 3  # names in a note or a message


@dataclass(frozen=True)
class Meant:
    """The nodes that some names and globs mean.

    Attributes:
        names: in the order of the graph that they are looked up in.
        notes: what became of those that are not there by the same name.
    """

    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Graphs:
    """The main graphs of a model as its user knows it, and as it was prepared."""

    source: GraphProto
    prepared: GraphProto
    _found: dict[str, tuple[str, ...]] = field(default_factory=dict, repr=False)

    def in_prepared(self, key: str, globs: Sequence[str]) -> Meant:
        """List the nodes of the prepared model that names and globs of either mean.

        Args:
            key: the study's, for messages.
            globs: names, or globs as in a shell.

        Raises:
            RecipeError: if one matches no node of either; with the nearest names.
        """
        meant: set[str] = set()
        folded: dict[str, tuple[str, ...]] = {}
        for glob in globs:
            own = {name for name in self._prepared if _matches(name, glob)}
            known = [name for name in self._source if _matches(name, glob)]
            if not own and not known:
                raise RecipeError(self._unknown(key, glob))
            meant |= own
            for name in known:
                if name not in self._prepared:
                    folded[name] = tuple(
                        # A glob leaves alone what keeps its own name and does not match.
                        target
                        for target in self._targets(name)
                        if glob == name or target not in self._source or _matches(target, glob) or self._has_output(target, name)
                    )
                    meant.update(folded[name])
        return Meant(tuple(name for name in self._prepared if name in meant), _notes(key, folded))

    def in_source(self, key: str, globs: Sequence[str]) -> Meant:
        """List the nodes of the user's model that names and globs of either mean.

        Raises:
            RecipeError: as :meth:`in_prepared`.
        """
        meant: set[str] = set()
        for glob in globs:
            known = {name for name in self._source if _matches(name, glob)}
            own = [name for name in self._prepared if _matches(name, glob) and name not in self._source]
            if not own and not known:
                raise RecipeError(self._unknown(key, glob))
            meant |= known
            meant.update(source for source in self._source if set(self._targets(source)) & set(own))
        return Meant(tuple(name for name in self._source if name in meant))

    @cached_property
    def _source(self) -> Mapping[str, NodeProto]:
        return {node.name: node for node in self.source.node if node.name}

    @cached_property
    def _prepared(self) -> Mapping[str, NodeProto]:
        return {node.name: node for node in self.prepared.node if node.name}

    @cached_property
    def _makers(self) -> Mapping[str, str]:
        """Which node of the prepared model gives a tensor."""
        return {output: node.name for node in self.prepared.node for output in node.output if output}

    @cached_property
    def _constants(self) -> frozenset[str]:
        """What could be computed in advance: the prepared model's initializers, and what follows from the user's alone."""
        found = {"", *(tensor.name for tensor in (*self.source.initializer, *self.prepared.initializer))}
        for node in self.source.node:
            if found.issuperset(node.input) and not any(attribute.HasField("g") for attribute in node.attribute):
                found.update(node.output)
        return frozenset(found)

    @cached_property
    def _takers(self) -> Mapping[str, Sequence[NodeProto]]:
        """Which nodes of the user's model take a tensor."""
        takers: dict[str, list[NodeProto]] = {}
        for node in self.source.node:
            for name in node.input:
                takers.setdefault(name, []).append(node)
        return takers

    def _targets(self, name: str) -> tuple[str, ...]:
        """Where a node of the user's model went: to the node that gives its outputs, or else to those that took them."""
        if name not in self._found:
            self._found[name] = tuple(dict.fromkeys(self._followed(self._source[name])))
        return self._found[name]

    def _followed(self, node: NodeProto) -> Iterable[str]:
        pending, seen = [node], {id(node)}
        while pending:
            made = [self._makers[output] for each in pending for output in each.output if output in self._makers]
            made += [each.name for each in pending if each is not node and each.name in self._prepared]
            if made or any(output in self._constants for each in pending for output in each.output):
                return made
            following = [taker for each in pending for output in each.output for taker in self._takers.get(output, ())]
            pending = [taker for taker in following if id(taker) not in seen]
            seen.update(id(taker) for taker in pending)
        return ()

    def _has_output(self, target: str, name: str) -> bool:
        """Whether a node of the prepared model gives what a node of the user's model gave."""
        return any(self._makers.get(output) == target for output in self._source[name].output)

    def _unknown(self, key: str, glob: str) -> str:
        for node in self.source.node:
            if any(_matches(inner.name, glob) for inner in inside(node)):
                return f"{key}: '{glob}' is inside of {node.op_type} '{node.name}'; only nodes of the main graph are quantized, and can be named"
        names = list(dict.fromkeys([*self._source, *self._prepared]))
        close = [f"'{name}'" for name in get_close_matches(glob.strip("*"), names, n=SHOWN)]
        shown = f"did you mean {' or '.join(close)}?" if close else f"the first are {', '.join(names[:5])}"
        return f"{key}: '{glob}' matches no node of the model, nor of the prepared one; {shown}"


def _matches(name: str, glob: str) -> bool:
    return name == glob or fnmatchcase(name, glob)


def _notes(key: str, folded: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Tell what became of names that are not there any more."""
    moved = [f"'{name}' is part of '{', '.join(targets[:SHOWN])}'" for name, targets in folded.items() if targets]
    gone = [f"'{name}'" for name, targets in folded.items() if not targets]
    notes = []
    if moved:
        notes.append(f"{key}: in the prepared model {_first(moved)}")
    if gone:
        notes.append(f"{key}: the prepared model does without {_first(gone)}: computed in advance, or dropped")
    return tuple(notes)


def _first(words: Sequence[str]) -> str:
    return ", ".join(words[:SHOWN]) + (f" and {len(words) - SHOWN} more" if len(words) > SHOWN else "")
