"""Half precision: weights and arithmetic in float16, inputs and outputs in float32 unless asked otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import TensorProto
from onnxruntime.transformers import float16 as own
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST

from harness.quantize.method import Method, register
from harness.quantize.methods.failing_node import Suspects, name_all
from harness.quantize.model import storage
from harness.quantize.model.graph import fix_initializers, name_nodes, nodes, sort_nodes, tensors
from harness.quantize.model.ort_patches import merge_nodes
from harness.quantize.model.outer_scope import float_tensors, keep
from harness.quantize.planning import sizes
from harness.quantize.quiet import quiet
from harness.quantize.reasons import RecipeError, reason_of
from harness.quantize.rewriting import convert, decide
from harness.quantize.steps.float16_range import join_float32
from harness.quantize.verify import isolated
from harness.study.toml_file import nearest
from harness.study.variants import Float16Spec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import ModuleType

    from onnx import ModelProto

    from harness.quantize.context import BuildContext
    from harness.quantize.model.outline import Node
    from harness.quantize.recipe import Recipe
    from harness.quantize.step import Changes

    Converter = Callable[[ModelProto, Recipe, Sequence[str]], ModelProto]

# Each takes a conversion and a session; a model with more such nodes is better told by op type.
REPAIRS = 24
SHOWN = 5  # names in a note
# onnx infers both sides of the spectrum where one was asked for, and onnxruntime refuses a file with such shapes (onnx/defs/math/defs.cc).
MISJUDGED = frozenset({"STFT"})
# What float16 holds: its smallest and its largest number; onnxconverter-common would clip at 10,000.
RANGE = {"min_positive_val": 5.96e-08, "max_finite_val": 65504.0}


def make(recipe: Recipe, context: BuildContext, path: Path) -> tuple[str, ...]:
    """Convert the source model by onnxruntime's converter, or else by onnxconverter-common's.

    Both sometimes give models that no runtime loads, so the result is loaded before it counts. A node that the error names is
    left in float32 then, and the conversion tried again.

    Raises:
        RecipeError: if neither gives a model that loads, or a node is named that is not there.
    """
    start, changes = _content(context, recipe)
    decision = decide(start, recipe, None)
    excluded = [*(changes.node(name) for name in context.excluded_of_source(recipe)), *decision.float_nodes]
    kinds = {tensor.data_type for tensor in tensors(start) if tensor.dims}
    # The converters work in place: the first takes this copy, and makes way for the next before that is made.
    copies = [start]
    del start
    failures: list[str] = []
    for name, converter in (("onnxruntime", _by_onnxruntime), ("onnxconverter-common", _by_common)):
        known = list(excluded)
        try:
            _convert(converter, recipe, context, path, known, copies, joined=bool(decision.float_nodes))
        except Exception as exc:  # noqa: BLE001 - the converters raise anything
            count = len(known) - len(excluded)
            tried = f", with {count} more in float32" if count else ""
            failures.append(f"{name}{tried}: {reason_of(exc, [context.folder])}")
            continue
        notes = [f"converted by {name}, because by {failures[0]}"] if failures else []
        have = {node.op_type for node in nodes(context.source.proto)}
        if absent := [kind for kind in recipe.exclude_op_types if kind not in have]:
            notes.append(f"exclude_op_types: the model has no {', '.join(absent)}; {nearest(absent[0], sorted(have))}")
        if left := known[len(excluded) :]:
            shown = ", ".join(left[:SHOWN]) + (f" and {len(left) - SHOWN} more" if len(left) > SHOWN else "")
            notes.append(f"onnxruntime does not load it unless these stay in float32: {shown}")
        if TensorProto.FLOAT16 in kinds and TensorProto.FLOAT not in kinds:
            notes.append("the model is float16 already; nothing was converted")
        return (*changes.notes, *decision.notes, *notes)
    raise RecipeError("; ".join(failures))


def _convert(
    converter: Converter,
    recipe: Recipe,
    context: BuildContext,
    path: Path,
    left: list[str],
    copies: list[ModelProto],
    *,
    joined: bool,
) -> None:
    """Convert and load, leaving more and more nodes alone; these are added to ``left``, which begins with those that are excluded.

    Copies of the model that are at hand are used up first. Nodes in float32 are ``joined`` where values would not survive float16.

    Raises:
        Exception: the last one, if it names no further node, or too many were left.
    """
    most = len(left) + REPAIRS
    suspects: Suspects | None = None
    floats: set[str] = set()
    while True:
        model = copies.pop() if copies else _content(context, recipe)[0]
        if left and not floats:
            # A large model's shapes can't be inferred with its tensors; the source has the graph without.
            floats = float_tensors(context.source.proto if context.source.is_large else model)
        suspects = suspects or Suspects(model)
        try:
            with quiet():
                made = converter(model, recipe, left)
                merge_nodes(made)
                keep(made, left, floats)
                if joined:
                    join_float32(made)
                sort_nodes(made)
                if any(node.op_type in MISJUDGED for node in made.graph.node):
                    del made.graph.value_info[:]
                storage.write(made, path)
            # Some of these files make onnxruntime end its process.
            isolated.load_and_run(path)
        except isolated.CrashError:
            raise
        except Exception as exc:
            culprit = suspects.find(str(exc), left)
            if culprit is None or len(left) >= most:
                raise
            left.append(culprit)
        else:
            return


def _content(context: BuildContext, recipe: Recipe) -> tuple[ModelProto, Changes]:
    """Copy the source, as the converters work in place, with a name for each node, and apply the recipe's preparation steps."""
    copied = context.source.content()
    fix_initializers(copied)
    name_nodes(copied)
    for node in copied.graph.node:
        name_all(node)
    return copied, convert(copied, recipe)


def _by_onnxruntime(model: ModelProto, recipe: Recipe, left: Sequence[str]) -> ModelProto:
    return _converted(own, model, recipe, left)


def _by_common(model: ModelProto, recipe: Recipe, left: Sequence[str]) -> ModelProto:
    from onnxconverter_common import float16  # noqa: PLC0415 - only needed when the first converter fails

    return _converted(float16, model, recipe, left)


def _converted(tool: ModuleType, model: ModelProto, recipe: Recipe, left: Sequence[str]) -> ModelProto:
    """Convert by one of the two, which have the same signature: one came from the other."""
    converted: ModelProto = tool.convert_float_to_float16(
        model,
        keep_io_types=recipe.keep_io_types,
        op_block_list=[*tool.DEFAULT_OP_BLOCK_LIST, *recipe.exclude_op_types],
        node_block_list=list(left),
        # Of a large model they are inferred already, and can't be with its tensors.
        disable_shape_infer=storage.is_large(storage.size(model)),
        **RANGE,
    )
    return converted


def _works_on(recipe: Recipe, node: Node, _: int) -> bool:
    return node.kind not in DEFAULT_OP_BLOCK_LIST and node.kind not in recipe.exclude_op_types


def _differences(_: Recipe, model: ModelProto) -> list[str]:
    if any(tensor.data_type == TensorProto.FLOAT16 for tensor in tensors(model)):
        return []
    return ["no weight was converted"]


METHOD = register(Method(spec=Float16Spec, make=make, works_on=_works_on, size=sizes.of_halves, differences=_differences))
