"""What a model is made of, and what each recipe can and can't do with it."""

from __future__ import annotations

from collections import Counter
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from pydantic import BaseModel, ConfigDict

from harness.quantize.data.dims import open_dims
from harness.quantize.matrix import plan
from harness.quantize.model.graph import MAIN_DOMAINS, is_quantized, nodes, tensors
from harness.quantize.model.model import TensorSpec, read_model
from harness.quantize.planning.planner import Plan, PlannedVariant, plan_build
from harness.study.study import for_model

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from onnx import NodeProto

    from harness.quantize.platform import Platform
    from harness.quantize.recipe import Recipe

T = onnx.TensorProto
WEIGHTS = frozenset({T.FLOAT, T.FLOAT16, T.BFLOAT16, T.DOUBLE, T.INT8, T.UINT8, T.INT4, T.UINT4})
NOTHING = "the main graph has no node that it works on"


class Facts(BaseModel):
    """A part of the answer: immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorFacts(Facts):
    """An input or output; a shape's open dimensions are names."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class NodeFacts(Facts):
    """A node; ``inside`` names the If, Loop, Scan or function that it is in, empty for the main graph."""

    index: int
    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    inside: str = ""


class RecipeFacts(Facts):
    """What a recipe can do with a model.

    Attributes:
        name: the recipe's.
        possible: no rule is against it.
        reason: the rule, or what else stands in the way.
        quantizes: nodes of the main graph, by op type, that it may turn into integers (``fp16``: into half precision); the
            preparation can fold some away, and an operator between float ones may be left.
        stays_float: the other op types.
    """

    name: str
    possible: bool
    reason: str | None
    quantizes: dict[str, int]
    stays_float: tuple[str, ...]


class ModelFacts(Facts):
    """A model.

    Attributes:
        path: the file.
        name: its stem.
        size: bytes, external data included.
        sha256: of the file, in hex.
        opset: version of the standard operator set.
        opsets: version by domain; the standard one is ``ai.onnx``.
        ir_version: of the file format.
        producer: the exporter.
        inputs: those that must be fed.
        outputs: the tensors among them.
        open_dims: dimensions that need a value by ``--dim``.
        parameters: stored numbers, without integer constants such as shapes.
        external_data: files beside it.
        quantized: quantized nodes by op type; empty for a float model.
        op_histogram: nodes by op type, the most frequent first, subgraphs and functions included.
        nodes: in the order of the file.
        recipes: of the default matrix.
        plan: what making these would give.
    """

    path: Path
    name: str
    size: int
    sha256: str
    opset: int
    opsets: dict[str, int]
    ir_version: int
    producer: str
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    open_dims: tuple[str, ...]
    parameters: int
    external_data: tuple[str, ...]
    quantized: dict[str, int]
    op_histogram: dict[str, int]
    nodes: tuple[NodeFacts, ...]
    recipes: tuple[RecipeFacts, ...]
    plan: Plan


def inspect_model(path: Path, platforms: Sequence[Platform] = ()) -> ModelFacts:
    """Describe a model, which may be quantized.

    Args:
        path: its file.
        platforms: where its variants would run.

    Raises:
        ModelError: if it can't be opened; see :func:`harness.quantize.model.model.read_model`.
    """
    model = read_model(path)
    proto = model.proto
    histogram = Counter(node.op_type for node in nodes(proto))
    study = for_model(path)
    recipes = plan(study)
    told = plan_build(study, recipes, model, platforms)
    kinds = Counter(node.op_type for node in proto.graph.node)
    listed = [*_listed(proto.graph.node, "")]
    for function in proto.functions:
        listed += _listed(function.node, function.name)
    return ModelFacts(
        path=path,
        name=path.stem,
        size=model.size,
        sha256=model.sha256,
        opset=model.opset,
        opsets={"ai.onnx" if o.domain in MAIN_DOMAINS else o.domain: o.version for o in proto.opset_import},
        ir_version=model.ir_version,
        producer=f"{proto.producer_name} {proto.producer_version}".strip(),
        inputs=_tensor_facts(model.inputs),
        outputs=_tensor_facts(model.outputs),
        open_dims=open_dims(model),
        parameters=sum(prod(tensor.dims) for tensor in tensors(proto) if tensor.data_type in WEIGHTS),
        external_data=model.external_data,
        quantized={kind: count for kind, count in histogram.most_common() if is_quantized(kind)},
        op_histogram=dict(histogram.most_common()),
        nodes=tuple(fact.model_copy(update={"index": index}) for index, fact in enumerate(listed)),
        recipes=tuple(_recipe_facts(*pair, kinds) for pair in zip(recipes, told.variants, strict=True)),
        plan=told,
    )


def _tensor_facts(specs: Iterable[TensorSpec]) -> tuple[TensorFacts, ...]:
    return tuple(TensorFacts(name=spec.name, dtype=spec.dtype, shape=spec.shape) for spec in specs)


def _listed(of: Iterable[NodeProto], inside: str) -> list[NodeFacts]:
    found: list[NodeFacts] = []
    for node in of:
        found.append(
            NodeFacts(
                index=0,
                name=node.name,
                op_type=node.op_type,
                inputs=tuple(node.input),
                outputs=tuple(node.output),
                inside=inside,
            )
        )
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                found += _listed(graph.node, f"{node.name or node.op_type}.{attribute.name}")
    return found


def _recipe_facts(recipe: Recipe, planned: PlannedVariant, kinds: Counter[str]) -> RecipeFacts:
    reason = planned.why.sentence if planned.why and planned.state == "impossible" else None
    if reason is None and not planned.nodes and not recipe.is_copied:
        reason = NOTHING
    return RecipeFacts(
        name=recipe.name,
        possible=planned.state != "impossible",
        reason=reason,
        quantizes=planned.nodes,
        stays_float=tuple(sorted(set(kinds) - set(planned.nodes))),
    )
