"""onnxruntime's ``extra_options``, as its quantizers want them: TOML has no QuantType and no numpy scalars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.quant_utils import ONNX_TYPE_TO_NP_TYPE

from harness.quantize.reasons import RecipeError
from harness.quantize.step import Changes
from harness.study.ort_options import OPTIONS
from harness.study.toml_file import nearest

if TYPE_CHECKING:
    from onnx import ModelProto

    from harness.quantize.recipe import Recipe

# Of quantize_static's options those that its calibration takes, by the name that create_calibrator knows.
OF_CALIBRATION = {
    "CalibTensorRangeSymmetric": "symmetric",
    "CalibMovingAverage": "moving_average",
    "CalibMovingAverageConstant": "averaging_constant",
    "CalibPercentile": "percentile",
}
STRIDE = "CalibStridedMinMax"
TENSORS = "TensorQuantOverrides"
LIMITS = {
    "QInt4": (-8, 7),
    "QUInt4": (0, 15),
    "QInt8": (-128, 127),
    "QUInt8": (0, 255),
    "QInt16": (-32768, 32767),
    "QUInt16": (0, 65535),
}


def of_calibration(recipe: Recipe) -> dict[str, Any]:
    """Collect what a recipe says of its calibration, as ``create_calibrator(extra_options=…)`` takes it.

    ``calibration_options`` are in its words already, and win over the ``Calib…`` among the extra options.
    """
    extra = recipe.options()
    return {word: extra[name] for name, word in OF_CALIBRATION.items() if name in extra} | recipe.options("calibration")


def translated(recipe: Recipe, model: ModelProto, changes: Changes | None = None) -> dict[str, Any]:
    """Give a recipe's extra options as the quantizers of onnxruntime take them.

    Args:
        recipe: its options are of known names and types already.
        model: the one that is quantized; the tensors that are named must be there.
        changes: by which its names differ from the prepared model's; what is said of a constant is said of its copies.

    Raises:
        RecipeError: if a tensor or a node is named that the model does not have; it would be ignored, or refused without a hint.
    """
    options = recipe.options()
    if TENSORS in options:
        changes = changes or Changes()
        options[TENSORS] = {
            present: _tables(present, said, recipe, model, changes)
            for name, said in options[TENSORS].items()
            for present in changes.tensor(name)
        }
    if "DefaultTensorType" in options:
        options["DefaultTensorType"] = TensorProto.DataType.Value(options["DefaultTensorType"])
    return options


def notes(recipe: Recipe) -> tuple[str, ...]:
    """Tell which of a recipe's options the tool does not read in its mode: setting them changes nothing."""
    given = recipe.options()
    mode = recipe.format or recipe.method
    idle = [name for name in given if mode not in OPTIONS[name].of]
    found = [f"{', '.join(idle)}: without effect in {mode}"] if idle else []
    if STRIDE in given:
        found.append(f"{STRIDE}: without effect, as samples are always taken one at a time")
    return tuple(found)


def _tables(name: str, said: Any, recipe: Recipe, model: ModelProto, changes: Changes) -> list[dict[str, Any]]:  # noqa: ANN401 - of the study
    """Translate the overrides of a tensor: one table, or one for each channel."""
    graph = model.graph
    weights = {tensor.name: tensor.data_type for tensor in graph.initializer}
    known = list(
        dict.fromkeys([*weights, *(each.name for each in graph.input), *(out for node in graph.node for out in node.output)])
    )
    if name not in known:
        message = f"{TENSORS}: the prepared model has no tensor '{name}'; {nearest(name, known[:200])}"
        raise RecipeError(message)
    usual = (recipe.weight if name in weights else recipe.activation) or "QUInt8"
    names = [node.name for node in graph.node]
    tables = [_table(each, usual) for each in (said if isinstance(said, list) else [said])]
    for table in tables:
        convert = table.get("convert", {})
        if "recv_nodes" in convert:
            convert["recv_nodes"] = {changes.node(node) for node in convert["recv_nodes"]}
        for node in convert.get("recv_nodes", ()):
            if node not in names:
                message = f"{TENSORS} of '{name}': the prepared model has no node '{node}'; {nearest(node, names[:200])}"
                raise RecipeError(message)
    return tables


def _table(said: dict[str, Any], usual: str) -> dict[str, Any]:
    """Translate one table: the names of types to QuantType, numbers to numpy's."""
    kind = QuantType[said.get("quant_type", usual)]
    table = dict(said)
    if "quant_type" in said:
        table["quant_type"] = kind
    for key in {"scale", "rmin", "rmax"} & set(said):
        table[key] = np.array(said[key], dtype=np.float32)
    if "zero_point" in said:
        least, most = LIMITS[kind.name]
        if not least <= said["zero_point"] <= most:
            message = f"{TENSORS}: a zero_point of {kind.name} lies between {least} and {most}, not at {said['zero_point']}"
            raise RecipeError(message)
        table["zero_point"] = np.array(said["zero_point"], dtype=ONNX_TYPE_TO_NP_TYPE[kind.tensor_type])
    if "convert" in said:
        table["convert"] = _table(said["convert"], usual)
    if "recv_nodes" in said:
        table["recv_nodes"] = set(said["recv_nodes"])
    return table
