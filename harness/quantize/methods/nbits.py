"""Weights of 2, 4 or 8 bits in blocks, activations in float: onnxruntime's MatMulNBits."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnxruntime.quantization import QuantFormat
from onnxruntime.quantization.neural_compressor import util
from onnxruntime.quantization.onnx_model import ONNXModel

from harness.quantize import opset
from harness.quantize.calibration.reader import CopiedReader
from harness.quantize.method import Method, Tool, register
from harness.quantize.methods.dynamic import GEMM, MATMUL, RENAMED
from harness.quantize.model import ort_patches, storage
from harness.quantize.model.graph import nodes
from harness.quantize.planning import sizes
from harness.quantize.quiet import quiet
from harness.quantize.reasons import RecipeError
from harness.quantize.step import listed
from harness.quantize.target_nodes import is_matmul, is_matrix
from harness.quantize.verify import precision
from harness.study.variants import NBitsSpec

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from onnx import ModelProto

    from harness.quantize.context import BuildContext
    from harness.quantize.model.outline import Node
    from harness.quantize.recipe import Recipe

# Its import would set up the root logger, and put the INFO of every library on the user's terminal.
with quiet():
    from onnxruntime.quantization import matmul_nbits_quantizer as tool


class Quantizer(tool.MatMulNBitsQuantizer):  # type: ignore[misc]  # onnxruntime is not typed
    """onnxruntime's, but GPTQ leaves excluded nodes alone too."""

    def _generate_q4_node_config(self) -> dict[str, Any]:
        return {**super()._generate_q4_node_config(), **dict.fromkeys(self.nodes_to_exclude, "fp32")}


def make(recipe: Recipe, context: BuildContext, path: Path) -> tuple[str, ...]:
    """Quantize the weights of each MatMul of the prepared model, and of each Gemm, which is a MatMul and an Add.

    Raises:
        RecipeError: if the recipe does not suit the model, or needs calibration data that are not there.
    """
    prepared = context.model(recipe)
    model = onnx.load(context.raised(recipe).path)
    decision = context.decision(recipe)
    chosen, excluded = set(context.chosen(recipe)), {*context.excluded(recipe), *decision.float_nodes}
    renamed = {node.name: node.name + RENAMED for node in model.graph.node if node.op_type == GEMM}
    with quiet():
        ONNXModel(model).replace_gemm_with_matmul()
    names = [node.name for node in model.graph.node if node.op_type == MATMUL]
    left = {renamed.get(name, name) for name in excluded}
    if chosen:
        # The tool's nodes_to_include comes on top of the op types; it keeps nothing out.
        left |= set(names) - {renamed.get(name, name) for name in chosen}
    in_bodies = any(node.op_type == MATMUL for node in nodes(model)) and not names
    if not set(names) - left and not (in_bodies and not chosen):
        message = "the prepared model has no MatMul or Gemm whose weights could be quantized"
        special = [node.name for node in model.graph.node if node.op_type == GEMM]
        if names:
            message += " that nodes and exclude_nodes leave"
        elif special:
            message += (
                f": the tool leaves {listed(special)} (Gemm) in float because of alpha, beta or transA; the preparation step fold-gemm "
                "rewrites a Gemm with constant weights, unless skip_steps names it"
            )
        raise RecipeError(message)
    with quiet():
        quantizer = Quantizer(
            model,
            bits=recipe.bits,
            block_size=recipe.block_size,
            is_symmetric=recipe.symmetric is not False,
            accuracy_level=recipe.accuracy_level or None,
            nodes_to_exclude=sorted(left),
            quant_format=QuantFormat[recipe.format],
            algo_config=_algorithm(recipe, context, names),
        )
        quantizer.process()
    made: ModelProto = quantizer.model.model
    ort_patches.give_bodies_their_weights(made)
    ort_patches.merge_repeated(made)
    storage.write(made, path)
    about_data = context.samples[recipe.calibration_data].notes if recipe.is_calibrated else ()
    return (*about_data, *context.notes(recipe), *decision.notes, *opset.notes(prepared.proto, made))


def _algorithm(recipe: Recipe, context: BuildContext, names: Iterable[str]) -> Any:  # noqa: ANN401 - onnxruntime is not typed
    """Configure an algorithm other than the default one, of which the tool configures itself."""
    if recipe.algorithm == "HQQ":
        return tool.HQQWeightOnlyQuantConfig(block_size=recipe.block_size, bits=recipe.bits)
    if recipe.algorithm == "GPTQ":
        config = tool.GPTQWeightOnlyQuantConfig(_feeds(recipe, context))
    elif recipe.algorithm in {"RTN", "k_quant"}:
        kinds = {"RTN": tool.RTNWeightOnlyQuantConfig, "k_quant": tool.KQuantWeightOnlyQuantConfig}
        config = kinds[recipe.algorithm]()
    else:
        return None
    # These take the number of bits of each node from here, and 4 where nothing is said.
    config.customized_weight_config = {name: {"bits": recipe.bits} for name in names}
    return config


def _feeds(recipe: Recipe, context: BuildContext) -> CopiedReader:
    """Give GPTQ its data.

    Raises:
        RecipeError: if there are none.
    """
    if recipe.calibration_data not in context.samples:
        message = "no calibration data were given"
        raise RecipeError(message)
    if find_spec("torch") is None:
        # All that GPTQ wants of torch is to turn its tensors into arrays, and arrays are all that it is given.
        util.to_numpy = np.asarray
    return CopiedReader(context.samples[recipe.calibration_data].feeds)


def _works_on(recipe: Recipe, node: Node, _: int) -> bool:
    if node.kind == GEMM and not is_matmul(recipe, node):
        return False
    return any(is_matrix(weight.dims) for weight in node.weights)


METHOD = register(
    Method(
        spec=NBitsSpec,
        make=make,
        op_types=lambda _: frozenset({GEMM, MATMUL}),
        works_on=_works_on,
        size=sizes.of_blocks,
        differences=precision.differences_of_blocks,
        tool=Tool("MatMulNBitsQuantizer", lambda _: "dynamic"),
    )
)
