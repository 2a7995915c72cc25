"""A method in one file: it rounds the weights of MatMul nodes to a number of decimal places, and keeps them in float."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import onnx
from onnx import numpy_helper
from pydantic import Field

from harness.quantize.method import Method, register
from harness.quantize.model.outline import Node
from harness.quantize.recipe import Recipe
from harness.quantize.rule import Rule
from harness.study.specs import VariantSpec


class RoundedSpec(VariantSpec):
    """Weights with few decimal places."""

    shown: ClassVar[tuple[str, ...]] = ("places",)
    is_reduced: ClassVar[bool] = True
    method: Literal["rounded"] = "rounded"
    places: int = 2
    exclude_nodes: list[str] = Field(default_factory=list)

    def words(self) -> tuple[str | None, ...]:
        """How many places."""
        return (f"{self.places}places",)


def make(recipe: Recipe, context: Any, path: Path) -> tuple[str, ...]:
    """Round the weights of the prepared model."""
    model = onnx.load(context.prepared.path)
    places = recipe.model_dump()["places"]
    left = set(context.excluded(recipe))
    weights = {name for node in model.graph.node if node.op_type == "MatMul" and node.name not in left for name in node.input}
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            rounded = numpy_helper.to_array(tensor).round(places).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
    onnx.save(model, path)
    return (*context.notes(recipe), f"weights were rounded to {places} places")


def _works_on(_recipe: Recipe, node: Node, _opset: int) -> bool:
    return bool(node.weights)


METHOD = register(
    Method(
        spec=RoundedSpec,
        make=make,
        op_types=lambda _: frozenset({"MatMul"}),
        works_on=_works_on,
        constraints=(
            Rule("negative-places", lambda r, _: r.model_dump()["places"] < 0, "there are no negative places", "this file"),
        ),
    )
)
