"""One operator in one form, and the model of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

    Array = NDArray[Any]

OUTSIDE = frozenset({"If"})  # their bodies take all inputs but the first from outside
SCALED = frozenset({"Resize", "Upsample"})  # their scales decide on the form
LAST = 20  # the newest opset that anything is raised from
RNG = np.random.default_rng(4)


def normal(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


X4, X3, X2, X1 = normal(2, 3, 4, 6), normal(2, 3, 4), normal(3, 4), normal(6)
POSITIVE = np.abs(X4) + 0.5
IMAGE = normal(1, 3, 7, 9)


@dataclass(frozen=True)
class Given:
    """A constant input."""

    value: Array


def fixed(values: Any, dtype: Any = np.int64) -> Given:
    return Given(np.array(values, dtype))


def forms(*found: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """Attributes of several cases."""
    return found


@dataclass(frozen=True)
class Case:
    """One operator in one form.

    Attributes:
        op: its type.
        low: the first opset that has the form.
        high: the last one.
        inputs: arrays are fed, :class:`Given` are constants, None is left out.
        attributes: of the node.
        outputs: how many.
    """

    op: str
    low: int
    high: int
    inputs: tuple[Array | Given | None, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1

    def __str__(self) -> str:
        shown = {name: value if not isinstance(value, onnx.GraphProto) else "…" for name, value in self.attributes.items()}
        if self.op in SCALED and isinstance(self.inputs[-1], Given):
            shown["scales"] = self.inputs[-1].value.tolist()
        return f"{self.op}({', '.join(f'{name}={value}' for name, value in shown.items())})"

    def feed(self) -> dict[str, Array]:
        """The arrays that are fed."""
        return {f"i{place}": value for place, value in enumerate(self.inputs) if isinstance(value, np.ndarray)}

    def model(self, opset: int, *, ranks: bool = True) -> ModelProto:
        """The model; its outputs have no shapes.

        Args:
            opset: of the model.
            ranks: whether the node's input has a shape for inference, or comes from an operator that nothing is known of.
        """
        names = ["" if value is None else f"i{place}" for place, value in enumerate(self.inputs)]
        if self.op in OUTSIDE:
            del names[1:]
        outputs = [f"o{place}" for place in range(self.outputs)]
        node = helper.make_node(self.op, names, outputs, "node", **self.attributes)
        graph = helper.make_graph(
            [node],
            "one",
            [
                helper.make_tensor_value_info(
                    name,
                    helper.np_dtype_to_tensor_dtype(value.dtype),
                    list(value.shape) if ranks else [f"{name}_{n}" for n in range(value.ndim)],
                )
                for name, value in self.feed().items()
            ],
            [onnx.ValueInfoProto(name=name) for name in outputs],
            [
                numpy_helper.from_array(value.value, f"i{place}")
                for place, value in enumerate(self.inputs)
                if isinstance(value, Given)
            ],
        )
        ir_version = helper.OP_SET_ID_VERSION_MAP[("ai.onnx", opset)]
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=max(4, ir_version))
        # onnxruntime tells the types of the outputs, which a model must state.
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for output, value in zip(graph.output, session.run(None, self.feed()), strict=True):
            kind, shape = helper.np_dtype_to_tensor_dtype(value.dtype), [f"{output.name}_{axis}" for axis in range(value.ndim)]
            output.CopyFrom(helper.make_tensor_value_info(output.name, kind, shape))
        del model.graph.output[:]
        model.graph.output.extend(graph.output)
        return model
