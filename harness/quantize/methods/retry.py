"""Makes a variant again without the nodes at which its tool fails: these stay in float, and a note names them.

onnxruntime's quantizers stop with an exception at the first node that they can't handle, so one node would cost the whole variant. Or they
write a file that onnxruntime itself does not load or run. In all cases the harness looks for the node and leaves it in float.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.quantize.method import method_of
from harness.quantize.model import storage
from harness.quantize.model.graph import nodes_in
from harness.quantize.reasons import RecipeError, is_of_tool, nodes_at, raw_text
from harness.quantize.step import listed
from harness.quantize.verify import isolated, readback, trial_run
from harness.quantize.verify.trial_run import Failure

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from onnx import ModelProto

    from harness.quantize.context import BuildContext
    from harness.quantize.method import Tool
    from harness.quantize.recipe import Recipe
    from harness.quantize.verify.sample import Sample

ATTEMPTS = 24  # each is a quantization
ENOUGH = 3  # nodes of one form at which the tool has failed with the same words
IN_VAIN = 6  # of nodes that only a message names, how many are left out while the message stays the same
# Messages put the names of nodes and tensors in quotes or parentheses.
NAMED = re.compile(r"\(([^()\s]+)\)|'([^'\s]+)'|\"([^\"\s]+)\"")
# What the tools append to them.
APPENDED = re.compile(r"_(?:quant|quantized|QuantizeLinear|DequantizeLinear|output|scale|zero|Q4|Q8|Q2|DQ|bias)(?:_.*)?$")
RENAMED = "_MatMul"  # to the name of a Gemm that is rewritten


def make(recipe: Recipe, context: BuildContext, path: Path) -> tuple[str, ...]:
    """Make a variant in a file, and check it.

    Returns:
        Notes: of the method, of what was left in float, and of the check.

    Raises:
        RecipeError: if it can't be made, whichever node is left in float.
        Exception: of a method that is not retried.
    """
    if (tool := method_of(recipe).tool) is None:
        notes, failure = _once(recipe, context, path)
        return (*notes, *_note_of(failure))
    try:
        return _Attempts(recipe, context, path, tool).run()
    finally:
        context.leave(recipe, ())


@dataclass
class _Attempts:
    """Attempts at one variant, each with more nodes in float.

    Attributes:
        left: names of these nodes, and what the tool said of each.
        guessed: those that a message only names.
        unusable: those with which the file loads, but fails when it runs.
    """

    recipe: Recipe
    context: BuildContext
    path: Path
    tool: Tool
    left: dict[str, str] = field(default_factory=dict)
    guessed: list[str] = field(default_factory=list)
    unusable: set[str] = field(default_factory=set)

    def run(self) -> tuple[str, ...]:
        """Make the variant.

        Raises:
            RecipeError: if it can't be made.
        """
        failure, notes = self._attempt()
        if failure is None:
            return notes
        first, graph = failure, Graph.of(self.context.model(self.recipe).proto)
        # Where onnxruntime refuses the float model too, no node is at fault.
        tries = 0 if isinstance(first, Failure) and _tried(self.context.prepared.path, self.context.sample)[1] else ATTEMPTS
        for _ in range(tries):
            if not self._blame(failure, graph):
                break
            failure, notes = self._attempt()
            if failure is None:
                return (*self._spared(notes), *self._told(graph))
        if not tries:
            return (*notes, *_note_of(first))
        self.left.clear()
        if isinstance(first, Failure):
            # The file is what the tool makes of the model; another runtime may load it.
            return (*self._attempt()[1], *_note_of(first))
        if not is_of_tool(first):
            raise first
        raise RecipeError(self._message(first, graph)) from first

    def _attempt(self) -> tuple[Exception | None, tuple[str, ...]]:
        """Make the variant once; tell why it failed, if that may be a node's fault."""
        self.context.leave(self.recipe, tuple(self.left))
        try:
            notes, failure = _once(self.recipe, self.context, self.path)
        except (OSError, MemoryError, RecipeError):
            raise
        except Exception as exc:  # noqa: BLE001 - the tools raise anything
            return exc, ()
        return failure, notes

    def _blame(self, failure: Exception, graph: Graph) -> bool:
        """Leave the node that a failure means; say whether there is one."""
        culprit, at_work = graph.blame(failure, {*self.left, *self.context.excluded(self.recipe)})
        said = raw_text(failure.reason if isinstance(failure, Failure) else failure, self._folders)
        if culprit is None:
            return False
        if not at_work:
            if sum(said == self.left[name] for name in self.guessed) >= IN_VAIN:
                return False
            self.guessed.append(culprit)
        self.left[culprit] = said
        if isinstance(failure, Failure) and failure.loads:
            self.unusable.add(culprit)
        alike = [name for name in self.left if graph.forms[name] == graph.forms[culprit] and self.left[name] == said]
        if at_work and len(alike) >= ENOUGH:
            # The tool fails with every node of this form: it need not fail once for each.
            self.left |= {name: said for name, form in graph.forms.items() if form == graph.forms[culprit]}
        return True

    def _spared(self, notes: tuple[str, ...]) -> tuple[str, ...]:
        """Quantize the nodes again that were left out in vain before the right one was found; returns the notes of the variant."""
        stale = False
        for name in self.guessed[:-1]:
            said = self.left.pop(name)
            failure, found = self._attempt()
            stale = failure is not None
            if stale:
                self.left[name] = said
            else:
                notes = found
        return self._attempt()[1] if stale else notes

    def _told(self, graph: Graph) -> tuple[str, ...]:
        """Tell what was left in float, by what the tool said."""
        alike: dict[str, list[str]] = {}
        for name, reason in self.left.items():
            alike.setdefault(reason.replace(name, ""), []).append(name)
        return tuple(self._sentence(names, graph) for names in alike.values())

    def _sentence(self, names: list[str], graph: Graph) -> str:
        tool, them = self.tool.name, "it" if len(names) == 1 else "them"
        fails = f"what {tool} makes of {them} fails when it runs" if names[0] in self.unusable else f"{tool} fails with {them}"
        kinds = ", ".join(dict.fromkeys(graph.kinds[name] for name in names))
        stay = "stays" if len(names) == 1 else "stay"
        return f"{listed(names)} ({kinds}) {stay} in float, because {fails} ({self.left[names[0]]})"

    def _message(self, failure: Exception, graph: Graph) -> str:
        """Tell why the variant can't be made, and what may be done."""
        culprit = graph.blame(failure, ())[0]
        where = (
            f" at node '{culprit}' ({graph.kinds[culprit]}), and also when that node is left out" if culprit else " on this model"
        )
        return (
            f"onnxruntime's {self.tool.name} fails{where}; leave more nodes in float with exclude_nodes, or use {self.tool.instead(self.recipe)} "
            f"({raw_text(failure, self._folders)})"
        )

    @property
    def _folders(self) -> tuple[Path, ...]:
        return self.path.parent, self.context.folder


def _once(recipe: Recipe, context: BuildContext, path: Path) -> tuple[tuple[str, ...], Failure | None]:
    """Make a variant and check it.

    Returns:
        Notes, and why onnxruntime here does not load or run the model, if so.
    """
    notes = method_of(recipe).make(recipe, context, path)
    storage.settle(path)
    if not recipe.is_copied:
        readback.mend(path, context.oldest_runtime)
    notes = (*notes, *readback.check(recipe, path, context.oldest_runtime))
    found, failure = _tried(path, context.sample if trial_run.is_tried(recipe) else None)
    return (*notes, *found), failure


def _tried(path: Path, sample: Sample | None) -> tuple[tuple[str, ...], Failure | None]:
    """Run a file on a sample or, without one, only load it; gives notes, and why onnxruntime does not, if so."""
    try:
        if sample is not None:
            return isolated.call(trial_run.run, path, sample), None
    except Failure as exc:
        return (), exc
    reason = readback.refused(path)
    return (), None if reason is None else Failure(reason, *readback.refusals(path, reason))


def _note_of(failure: Exception | None) -> tuple[str, ...]:
    return (failure.note,) if isinstance(failure, Failure) else ()


@dataclass
class Graph:
    """The nodes of the main graph that a failure can mean: what is in a body stands for the node that has the body.

    Attributes:
        kinds: types of the nodes, by name.
        forms: type, attributes and number of inputs of the nodes, by name.
        takers: names of the nodes that take a tensor, by its name.
        makers: the name of the node that gives a tensor, by its name.
    """

    kinds: dict[str, str] = field(default_factory=dict)
    forms: dict[str, str] = field(default_factory=dict)
    takers: dict[str, list[str]] = field(default_factory=dict)
    makers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, model: ModelProto) -> Graph:
        """Look at a model."""
        found = cls()
        for node in model.graph.node:
            found.kinds[node.name] = node.op_type
            found.forms[node.name] = f"{node.op_type} {len(node.input)} {sorted(map(str, node.attribute))}"
            for inner in nodes_in(node):
                for name in inner.input:
                    found.takers.setdefault(name, []).append(node.name)
                found.makers.update((name, node.name) for name in inner.output if name)
        return found

    def blame(self, exc: BaseException, known: Collection[str]) -> tuple[str | None, bool]:
        """Find the node that a failure means.

        Args:
            exc: the failure.
            known: nodes that are left in float already.

        Returns:
            Its name, or None; and whether the tool was at work on it, rather than only naming something.
        """
        at_work = [each for name in nodes_at(exc) for each in self._spelled(name) if each in self.kinds]
        for name in at_work:
            if name not in known:
                return name, True
        return next((name for name in self._named(str(exc)) if name not in known), None), False

    def _named(self, message: str) -> Iterator[str]:
        """Yield the nodes that a message names, and those around the tensors that it names."""
        words = [next(filter(None, found)) for found in NAMED.findall(message)][::-1]
        for word in dict.fromkeys([*words, *(APPENDED.sub("", word) for word in words)]):
            for name in self._spelled(word):
                if name in self.kinds:
                    yield name
                yield from self.takers.get(name, ())
                if name in self.makers:
                    yield self.makers[name]

    @staticmethod
    def _spelled(name: str) -> Iterable[str]:
        return dict.fromkeys((name, name.removesuffix(RENAMED)))
