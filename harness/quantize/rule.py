"""A rule: something that is known of a combination of a recipe and a model, with its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.quantize.step import listed

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.quantize.model.outline import Summary
    from harness.quantize.recipe import Recipe


@dataclass(frozen=True)
class Rule:
    """Something that is known of a combination.

    Attributes:
        key: a short name, as the documentation and the tests call it.
        applies: says whether a recipe, of a model if it is known, is such a combination; None for the model means that nothing
            may be assumed of it.
        reason: what is so, for a reader; ``{opset}`` stands for ``opset 11`` or whichever the model has, ``{gemms}`` names its Gemm nodes.
        source: where that is written: a file of onnxruntime, an issue, a release.
        advice: what to do instead, if there is something.
    """

    key: str
    applies: Callable[[Recipe, Summary | None], bool]
    reason: str
    source: str
    advice: str = ""

    def message(self, model: Summary | None = None) -> str:
        """The reason and the advice, in words."""
        text = "; ".join(filter(None, [self.reason, self.advice]))
        text = text.replace("{gemms}", _gemms(model) if model else "")
        return text.replace("{opset}", f"opset {model.opset}" if model else "an older opset")

    def __str__(self) -> str:
        return f"{self.message()} ({self.source})"


def _gemms(model: Summary) -> str:
    """Name the Gemm nodes of the main graph: `` 'a', 'b'``."""
    return f" {listed(node.name or node.outputs[0] for node in model.nodes if node.kind == 'Gemm')}"
