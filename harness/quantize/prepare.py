"""Preparation of a model for quantization: shapes inferred, graph optimized, as far as the model lets it."""

from __future__ import annotations

import logging
import re
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import onnx
from onnxruntime.quantization import quant_pre_process, shape_inference
from onnxruntime.tools import symbolic_shape_infer

from harness.quantize import opset
from harness.quantize.model import storage, validity
from harness.quantize.model.graph import fix_initializers, name_nodes, opset_of, strip_unused_opsets
from harness.quantize.model.model import dimension_name
from harness.quantize.model.storage import LEAST_TENSOR
from harness.quantize.quiet import quiet
from harness.quantize.reasons import LIMIT, RecipeError, reason_of
from harness.quantize.recipe import Preparation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from onnx import ModelProto

    from harness.quantize.model.model import SourceModel
    from harness.quantize.verify.original import Original

RAW = "raw"
LEAST_OPSET = 11  # of a model that the tool prepares
# Each rung gives up a little more than the one before. Of nine real models two stand on the first. Where it is the optimizer that
# fails, shapes can still be inferred in full: so the last rung is tried with it, then without.
LADDER: tuple[tuple[str, Mapping[str, bool]], ...] = (
    ("default", MappingProxyType({})),
    ("auto_merge", MappingProxyType({"auto_merge": True})),
    ("guess_output_rank", MappingProxyType({"auto_merge": True, "guess_output_rank": True})),
    ("skip_symbolic_shape", MappingProxyType({"skip_symbolic_shape": True})),
    ("skip_optimization", MappingProxyType({"auto_merge": True, "guess_output_rank": True, "skip_optimization": True})),
    ("skip_optimization", MappingProxyType({"skip_symbolic_shape": True, "skip_optimization": True})),
)


@dataclass(frozen=True)
class Prepared:
    """The model that is quantized.

    Attributes:
        path: its file; the tensors of a large model lie beside it.
        proto: its content, not to be changed; without tensors if it is large.
        preparation: how far it went.
        is_large: whether the tools must be told to keep tensors beside the model: ``use_external_data_format``.
        conversion: notes on what was done to the user's model before.
    """

    path: Path
    proto: ModelProto
    preparation: Preparation
    is_large: bool = False
    conversion: tuple[str, ...] = ()

    @property
    def rung(self) -> str:
        """The rung of the ladder that the model stands on."""
        return self.preparation.rung

    @property
    def failures(self) -> tuple[str, ...]:
        """For each rung that was tried before, its name and why it failed."""
        return self.preparation.failures

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know."""
        found = self.preparation
        unverified = (f"preparation {found.unverified}",) if found.unverified else ()
        if not found.failures:
            return (*self.conversion, *unverified)
        how = "an unprepared model" if found.rung == RAW else f"a partly prepared model ({found.rung}; usually harmless)"
        return (*self.conversion, f"quantized from {how}, because the preparation failed: {found.failures[0]}", *unverified)


class _OptimizerError(Exception):
    """The tool goes on without the optimizer, and would only log that: a heading, then a traceback."""

    def __init__(self, logged: list[str]) -> None:
        last = (logged[-1].strip().splitlines() or [""])[-1]
        reason = re.sub(r"^[\w.]*\.(?=\w+: )|Load model from \S+ failed:", "", last)
        super().__init__(f"onnxruntime's optimizer failed: {reason}"[:LIMIT])


class _OtherModelError(Exception):
    """A rung gave a model that computes something else."""


def prepare(source: SourceModel, folder: Path, original: Original | None = None) -> Prepared:
    """Prepare a model on the first rung of the ladder that works: the result is valid, and computes what the model computes.

    Args:
        source: the model.
        folder: where ``prepared.onnx`` is written; the tool's own temporary files go there too.
        original: what the result of each rung is held against; None verifies nothing.
    """
    start, output = folder / "source.onnx", folder / "prepared.onnx"
    plain = _plain(source.proto)
    failures: list[str] = []
    begun = _raised(plain, failures)
    storage.write(begun, start, source.path.parent)
    rung = RAW
    for name, options in LADDER:
        try:
            with quiet(), _kept_in(folder), _told_of_failures():
                quant_pre_process(start, output, **options, **_outside(output, large=source.is_large))
            proto = _read(output, large=source.is_large)
            _verify(original, output)
        except Exception as exc:  # noqa: BLE001 - the tool raises anything, plain Exception too
            speaks = isinstance(exc, _OptimizerError | _OtherModelError)
            failures.append(f"{name}: {exc if speaks else reason_of(exc, [folder])}")
        else:
            rung = name
            break
    else:
        if begun is not plain:
            storage.write(plain, start, source.path.parent)
        storage.move(start, output, storage.data_of(start))
        proto = onnx.load(output, load_external_data=not source.is_large)
    storage.remove(start)
    fix_initializers(proto)
    strip_unused_opsets(proto)
    name_nodes(proto)
    onnx.save(proto, output)
    note = original.note if original and rung != RAW else None
    return Prepared(output, proto, Preparation(rung=rung, failures=tuple(failures), unverified=note), source.is_large)


def _raised(model: ModelProto, failures: list[str]) -> ModelProto:
    """Bring a model of opset 10 or less to 11, which the tool would do itself, and not always with the same meaning."""
    if (opset_of(model) or LEAST_OPSET) >= LEAST_OPSET:
        return model
    try:
        return opset.raised(model, LEAST_OPSET)
    except RecipeError as exc:
        failures.append(f"opset {LEAST_OPSET}: {exc}")
        return model


def _verify(original: Original | None, path: Path) -> None:
    """Hold a prepared model against the original.

    Raises:
        _OtherModelError: if it computes something else, or can't be run.
    """
    if original is None:
        return
    try:
        found = original.difference(path)
    except Exception as exc:
        message = f"gives a model that onnxruntime can't run: {reason_of(exc, [path.parent])}"
        raise _OtherModelError(message) from exc
    if found:
        message = f"computes something else: {found.sentence}"
        raise _OtherModelError(message)


def _outside(output: Path, *, large: bool) -> dict[str, Any]:
    """The tool's options for a large model: its tensors in one file beside it."""
    if not large:
        return {}
    beside = output.with_suffix(".data")
    beside.unlink(missing_ok=True)
    return {
        "save_as_external_data": True,
        "all_tensors_to_one_file": True,
        "external_data_location": beside.name,
        "external_data_size_threshold": LEAST_TENSOR,
    }


def _read(path: Path, *, large: bool) -> ModelProto:
    """Read what the tool wrote, and check it."""
    if not large:
        proto = onnx.load(path)
        validity.check(proto)
        return proto
    validity.check(path)
    return onnx.load(path, load_external_data=False)


def _plain(proto: ModelProto) -> ModelProto:
    """Copy a model with its initializers as constants, and without the names of input dimensions that do not tell one from another.

    Shape inference would take two unrelated dimensions that are both called ``?`` for one, and -1 for a size.
    """
    result = onnx.ModelProto()
    result.CopyFrom(proto)
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


@dataclass(frozen=True)
class _Beside:
    """The tempfile module, as far as the tool uses it, with another place than the system's, which may be small."""

    folder: Path

    def TemporaryDirectory(self, prefix: str) -> tempfile.TemporaryDirectory[str]:  # noqa: N802 - the tool's word
        return tempfile.TemporaryDirectory(prefix=prefix, dir=self.folder)


@contextmanager
def _kept_in(folder: Path) -> Iterator[None]:
    """Keep the tool's files in a folder: it would leave ``sym_shape_infer_temp.onnx`` where the user stands when it fails."""
    symbolic_shape_infer.onnx, shape_inference.tempfile = _WithoutDump(), _Beside(folder)
    try:
        yield
    finally:
        symbolic_shape_infer.onnx, shape_inference.tempfile = onnx, tempfile


class _Listener(logging.Handler):
    """Keeps what one thread logs as errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.thread = threading.get_ident()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        if record.thread == self.thread:
            self.said.append(record.getMessage())


@contextmanager
def _told_of_failures() -> Iterator[None]:
    """Raise what the tool only logs: that the model could not be optimized.

    Raises:
        _OptimizerError: with the last line of the traceback that it logs.
    """
    logger, listener = shape_inference.logger, _Listener()
    level, propagated = logger.level, logger.propagate
    logger.addHandler(listener)
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)
        logger.propagate = propagated
    if listener.said:
        raise _OptimizerError(listener.said)
