"""Models of one operator or few, quantized by onnxruntime's own tools: what rules say is shown on these."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.matmul_nbits_quantizer import (
    HQQWeightOnlyQuantConfig,
    MatMulNBitsQuantizer,
    RTNWeightOnlyQuantConfig,
)
from packaging.version import Version

from harness.quantize.calibration.reader import CopiedReader
from harness.quantize.quiet import quiet
from tests.models import make_model

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

SIDE, CHANNELS, ROWS, COLUMNS = 6, 4, 32, 16


def conv(*, opset: int = 17, then: list[NodeProto] | None = None) -> ModelProto:
    """A convolution, x [1, 4, 6, 6] -> y of the same shape; ``then`` takes ``c`` and gives ``y``."""
    first = helper.make_node("Conv", ["x", "w", "b"], ["c" if then else "y"], "conv", pads=[1, 1, 1, 1])
    shape = [1, CHANNELS, SIDE, SIDE]
    weights = {"w": _normal(CHANNELS, CHANNELS, 3, 3), "b": _normal(CHANNELS)}
    return make_model([first, *(then or [])], {"x": shape}, {"y": shape if not then else [None] * 4}, weights, opset=opset)


def matmul(*, kind: str = "MatMul", opset: int = 17, rows: int = ROWS) -> ModelProto:
    """A matrix product, x [4, 32] -> y [4, 16]."""
    node = helper.make_node(kind, ["x", "w"], ["y"], "matmul")
    return make_model([node], {"x": [4, rows]}, {"y": [4, COLUMNS]}, {"w": _normal(rows, COLUMNS)}, opset=opset)


def branches() -> ModelProto:
    """An If whose branches are a convolution each."""

    def branch(name: str) -> onnx.GraphProto:
        shape = [1, CHANNELS, SIDE, SIDE]
        node = helper.make_node("Conv", ["x", f"w{name}"], [f"y{name}"], f"conv{name}", pads=[1, 1, 1, 1])
        weight = onnx.numpy_helper.from_array(_normal(CHANNELS, CHANNELS, 3, 3), f"w{name}")
        out = helper.make_tensor_value_info(f"y{name}", TensorProto.FLOAT, shape)
        return helper.make_graph([node], name, [], [out], [weight])

    choice = helper.make_node("If", ["k"], ["y"], "choice", then_branch=branch("a"), else_branch=branch("b"))
    shape = [1, CHANNELS, SIDE, SIDE]
    model = make_model([choice], {"x": shape}, {"y": shape})
    model.graph.input.append(helper.make_tensor_value_info("k", TensorProto.BOOL, []))
    return model


def feeds(model: ModelProto, count: int = 4) -> list[dict[str, NDArray[Any]]]:
    """Feeds for a model with fixed shapes, the later ones larger."""
    rng = np.random.default_rng(7)
    return [
        {
            value.name: np.array(True)
            if value.type.tensor_type.elem_type == TensorProto.BOOL
            else ((number + 1) * rng.standard_normal([size.dim_value for size in value.type.tensor_type.shape.dim])).astype("f")
            for value in model.graph.input
        }
        for number in range(count)
    ]


def static(model: ModelProto, folder: Path, activation: str = "QUInt8", weight: str = "QInt8", **options: Any) -> Path:
    """``quantize_static``, calibrated with ``given`` feeds; the file."""
    form = QuantFormat[options.pop("form", "QDQ")]
    given = options.pop("given", None) or feeds(model)
    onnx.save(model, folder / "model.onnx")
    with quiet():
        quantize_static(
            folder / "model.onnx",
            folder / "made.onnx",
            CopiedReader(given),
            quant_format=form,
            activation_type=QuantType[activation],
            weight_type=QuantType[weight],
            **options,
        )
    return folder / "made.onnx"


def dynamic(model: ModelProto, folder: Path, weight: str = "QInt8", **options: Any) -> Path:
    """``quantize_dynamic``; the file."""
    onnx.save(model, folder / "model.onnx")
    with quiet():
        quantize_dynamic(folder / "model.onnx", folder / "made.onnx", weight_type=QuantType[weight], **options)
    return folder / "made.onnx"


def nbits(model: ModelProto, folder: Path, *, rtn: bool = False, form: str = "QOperator", **options: Any) -> Path:
    """``MatMulNBitsQuantizer``; the file."""
    config = RTNWeightOnlyQuantConfig(quant_format=QuantFormat[form]) if rtn else None
    with quiet():
        tool = MatMulNBitsQuantizer(model, algo_config=config, quant_format=QuantFormat[form], **options)
        tool.process()
    onnx.save(tool.model.model, folder / "made.onnx")
    return folder / "made.onnx"


def nbits_hqq(model: ModelProto, folder: Path) -> Path:
    """``MatMulNBitsQuantizer`` by HQQ; the file."""
    with quiet():
        tool = MatMulNBitsQuantizer(model, algo_config=HQQWeightOnlyQuantConfig())
        tool.process()
    onnx.save(tool.model.model, folder / "made.onnx")
    return folder / "made.onnx"


def session(path: Path, *, optimized: Path | None = None) -> onnxruntime.InferenceSession:
    """Load a file; ``optimized`` takes the graph that is run."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if optimized:
        options.optimized_model_filepath = str(optimized)
    with quiet():
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def optimized_kinds(path: Path) -> list[str]:
    """The op types of the graph that onnxruntime runs here."""
    graph = path.with_name("optimized.onnx")
    session(path, optimized=graph)
    return kinds(graph)


def kinds(path: Path) -> list[str]:
    """The op types of a file."""
    return [node.op_type for node in onnx.load(path).graph.node]


def stored(path: Path) -> dict[str, TensorProto]:
    """The initializers of a file."""
    return {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}


def fails(match: str, before: str) -> AbstractContextManager[object]:
    """Expect an error of onnxruntime before a version, and none since."""
    older = Version(onnxruntime.__version__) < Version(before)
    return pytest.raises(Exception, match=match) if older else nullcontext()


def outputs(path: Path, feed: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """What a file computes."""
    found: NDArray[Any] = session(path).run(None, feed)[0]
    return found


def _normal(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)
