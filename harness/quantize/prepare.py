"""Preparation of a model for quantization: shapes inferred, graph optimized, as far as the model lets it."""

from __future__ import annotations

import copy
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import onnx
from onnxruntime.quantization import quant_pre_process
from onnxruntime.tools import symbolic_shape_infer

from harness.quantize.graph import fix_initializers, name_nodes, strip_unused_opsets
from harness.quantize.model import dimension_name
from harness.quantize.quiet import quiet
from harness.quantize.reasons import reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from onnx import ModelProto

    from harness.quantize.model import SourceModel

RAW = "raw"
# Each rung gives up a little more than the one before. Of nine real models two stand on the first.
LADDER: tuple[tuple[str, Mapping[str, bool]], ...] = (
    ("default", MappingProxyType({})),
    ("auto_merge", MappingProxyType({"auto_merge": True})),
    ("guess_output_rank", MappingProxyType({"auto_merge": True, "guess_output_rank": True})),
    ("skip_symbolic_shape", MappingProxyType({"skip_symbolic_shape": True})),
    ("skip_optimization", MappingProxyType({"skip_symbolic_shape": True, "skip_optimization": True})),
)


@dataclass(frozen=True)
class Prepared:
    """The model that is quantized.

    Attributes:
        path: its file.
        proto: its content; not to be changed.
        rung: how far the preparation went: ``default`` is all of it, ``raw`` none.
        failures: for each rung that was tried before, its name and why it failed.
    """

    path: Path
    proto: ModelProto
    rung: str
    failures: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know."""
        if not self.failures:
            return ()
        how = "was not prepared" if self.rung == RAW else f"was prepared with {self.rung} only"
        return (f"the model {how}, because the preparation failed: {self.failures[0]}",)


def prepare(source: SourceModel, folder: Path) -> Prepared:
    """Prepare a model, on the first rung of the ladder that it stands.

    Args:
        source: the model.
        folder: where ``prepared.onnx`` is written.
    """
    start, output = folder / "source.onnx", folder / "prepared.onnx"
    onnx.save(_plain(source.proto), start)
    failures: list[str] = []
    rung = RAW
    for name, options in LADDER:
        try:
            with quiet(), _no_dump():
                quant_pre_process(start, output, **options)
            proto = onnx.load(output)
            onnx.checker.check_model(proto)
        except Exception as exc:  # noqa: BLE001 - the tool raises anything, plain Exception too
            failures.append(f"{name}: {reason_of(exc, [folder])}")
        else:
            rung = name
            break
    else:
        proto = onnx.load(start)
    fix_initializers(proto)
    strip_unused_opsets(proto)
    name_nodes(proto)
    onnx.save(proto, output)
    return Prepared(output, proto, rung, tuple(failures))


def _plain(proto: ModelProto) -> ModelProto:
    """Copy a model with its initializers as constants, and without the names of input dimensions that do not tell one from another.

    Shape inference would take two unrelated dimensions that are both called ``?`` for one, and -1 for a size.
    """
    result = copy.deepcopy(proto)
    fix_initializers(result)
    for value in result.graph.input:
        for size in value.type.tensor_type.shape.dim:
            if size.dim_value <= 0 and dimension_name(size) is None:
                size.Clear()
    return result


class _WithoutDump:
    """The onnx module, but for the one function that leaves files in the working folder."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the module has
        return getattr(onnx, name)

    def save_model(self, *_: object, **__: object) -> None:
        """Save nothing."""


@contextmanager
def _no_dump() -> Iterator[None]:
    """Keep symbolic shape inference from writing ``sym_shape_infer_temp.onnx`` where the user stands when it fails."""
    symbolic_shape_infer.onnx = _WithoutDump()
    try:
        yield
    finally:
        symbolic_shape_infer.onnx = onnx
