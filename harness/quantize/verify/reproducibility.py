"""Whether a model gives the same outputs when it is run twice on the same inputs; if not, no variant can be compared with it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import onnx

from harness.quantize.model import random_nodes
from harness.quantize.verify import differing_node
from harness.quantize.verify.equality import same
from harness.quantize.verify.session import open_session

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from onnx import ModelProto

    Feed = Mapping[str, Any]

SAMPLES, SECONDS = 4, 1.0  # so many are run again, and no further one is begun after so many seconds


@dataclass(frozen=True)
class Difference:
    """How a model does not reproduce itself.

    Attributes:
        outputs: names of the outputs that differ between two runs on the same inputs.
        others: names of the outputs that do not.
        causes: the nodes that cause it, as messages name them; empty if none was found.
    """

    outputs: tuple[str, ...]
    others: tuple[str, ...] = ()
    causes: str = ""

    @property
    def sentence(self) -> str:
        """What a reader of a variant's figures must know, and the next step."""
        return (
            f"the model does not reproduce itself: two runs on the same inputs differ in {quoted(self.outputs)}, "
            f"{'because of ' + self.causes if self.causes else 'and no node was found that causes it'}; {withheld(self.outputs, self.others)}; "
            "export the model in inference mode, or make its random numbers an input"
        )


def quoted(names: Sequence[str]) -> str:
    """Name outputs: ``output 'a'``, ``outputs 'a', 'b'``."""
    return f"output{'s' if len(names) > 1 else ''} {', '.join(map(repr, names))}"


def withheld(outputs: Sequence[str], others: Sequence[str]) -> str:
    """Say which figures are left out."""
    kept = f"; the figures that are given are of {quoted(others)} alone" if others else ""
    return f"MSE, SQNR, KL divergence and agreement with fp32 are left out for {quoted(outputs)}{kept}"


def of_labels(name: str) -> str:
    """Say what labels tell of an output that does not reproduce itself."""
    return (
        f"labels are compared with output {name!r}, so top-1 and its drop change from run to run and say nothing about a variant"
    )


def differs(model: Path, feeds: Iterable[Feed], earlier: Sequence[Sequence[Any]] = ()) -> Difference | None:
    """Run a model twice on the same inputs in one session, and hold that against an earlier session where there was one.

    A random operator gives something else on each call of a session, one with a ``seed`` too, which gives the same in every new
    session. What onnxruntime's optimizer folds into a constant is the same in one session, and may be another in the next.
    The cost is one load of the model and at most eight inferences.

    Args:
        model: its file.
        feeds: inputs; the first 4 of them are run, and no more after one second.
        earlier: for each of these feeds all outputs, in order, as an earlier session of the same file computed them.

    Returns:
        The outputs that differ and the nodes that cause it; None if all are the same.

    Raises:
        Exception: of onnxruntime, if it can't load or run the model.
    """
    session = open_session(model)
    names = [output.name for output in session.get_outputs()]
    different: set[str] = set()
    telling: Feed | None = None
    end = time.monotonic() + SECONDS
    for index, feed in enumerate(islice(feeds, SAMPLES)):
        if index and time.monotonic() > end:
            break
        once, again = session.run(None, feed), session.run(None, feed)
        before = earlier[index] if index < len(earlier) else once
        triples = zip(names, once, again, before, strict=True)
        found = {name for name, a, b, c in triples if not (same(a, b) and same(a, c))}
        telling = feed if found and telling is None else telling
        different |= found
    if telling is None:
        return None
    outputs = tuple(name for name in names if name in different)
    return Difference(outputs, tuple(name for name in names if name not in different), _causes(model, telling))


def suspicion(model: ModelProto) -> str | None:
    """Say that a model has random nodes though its outputs were the same each time; None if it has none.

    Dropout with a small ratio, or a random branch of an If that no sample took, need not show in a few runs; and onnxruntime's
    optimizer removes a Dropout inside the graph even in training mode, while calibration runs without optimizations.
    """
    certain = [node for node in random_nodes.find(model) if node.certain]
    if not certain:
        return None
    return (
        f"the model draws random numbers ({random_nodes.listed(certain)}), but gave the same outputs each time that it ran here, with onnxruntime's "
        "optimizations: with other inputs it may not, and calibrated ranges hold one draw; export it in inference mode"
    )


def _causes(model: Path, feed: Feed) -> str:
    """Name the random nodes; where none is sure to be one, the first node whose output differs."""
    known = random_nodes.find(onnx.load(model, load_external_data=False))
    certain = [node for node in known if node.certain]
    return random_nodes.listed(certain) or differing_node.find(model, feed) or random_nodes.listed(known)
