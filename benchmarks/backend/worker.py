"""One model after the other: inspected, planned, quantized and run. Reads the name of a folder in the working folder a line, answers one JSON object a line."""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from harness.errors import DataError, HarnessError
from harness.quantize import matrix
from harness.quantize.build import build
from harness.quantize.model.graph import is_quantized, nodes, tensors
from harness.quantize.model.model import read_model
from harness.quantize.planning.inspect import inspect_model
from harness.quantize.planning.planner import plan_build
from harness.quantize.platform import platform
from harness.quantize.quiet import quiet
from harness.quantize.reasons import reason_of
from harness.quantize.verify import fidelity
from harness.study import study as studies
from harness.study.specs import variant_spec
from harness.study.variants import VariantsSection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.quantize.planning.inspect import ModelFacts
    from harness.quantize.recipe import Recipe, Variant
    from harness.study.study import Study

MEMORY = 12 * 2**30  # bytes of address space; a model that wants more fails alone
NO_WEIGHTS = "whose weights could be quantized"  # of nbits
HALF = onnx.TensorProto.FLOAT16
STATIC_OPS = frozenset({*QDQRegistry, *QLinearOpsRegistry})
KINDS = ("fp16", "dynamic", "static")


def examine(folder: Path) -> dict[str, Any]:
    """Take a model through everything.

    Returns:
        ``refused``: why the harness does not inspect the model; ``not_taken``: why it makes nothing of it; ``fp32``: why onnxruntime
        does not run it; ``recipes``: for each its
        ``outcome`` (quantized, nothing, impossible, failed, not run) with the reason and the SQNR in dB; ``crash``: what was raised
        that should not have been.
    """
    try:
        facts = inspect_model(folder / "model.onnx")
    except HarnessError as exc:
        return {"refused": str(exc).replace(f"{folder}/", "")}
    except Exception as exc:  # noqa: BLE001 - to be found and mended
        return {"crash": _crash(exc)}
    try:
        return _examine(folder, facts)
    except HarnessError as exc:
        return {"not_taken": str(exc).replace(f"{folder}/", "")}
    except Exception as exc:  # noqa: BLE001
        return {"crash": _crash(exc)}


def _crash(exc: Exception) -> str:
    frame = traceback.extract_tb(exc.__traceback__)[-1]
    return f"{reason_of(exc)} in {frame.name}, {Path(frame.filename).name}:{frame.lineno}"


def study_of(folder: Path, facts: ModelFacts, data: str) -> Study:
    """Ask for one recipe of each kind."""
    sizes: dict[str, list[int]] = {}
    if data != "random":
        with np.load(folder / "inputs.npz") as given:
            for tensor in facts.inputs:
                shape = given[tensor.name].shape[1:]
                sizes |= {name: [max(size, 1)] for name, size in zip(tensor.shape, shape, strict=True) if isinstance(name, str)}
    else:
        sizes = {name: [1] for name in facts.open_dims}
    lists = VariantsSection(methods=list(KINDS), activations=["QUInt8"], weights=["QInt8"])
    study = studies.for_model(folder / "model.onnx", dims=sizes, calibration=data)
    return study.model_copy(update={"variants": lists, "variant": [variant_spec(method="nbits", format="QOperator")]})


def planned(study: Study) -> tuple[Recipe, ...]:
    """Plan a study, as ``harness quantize --plan`` does for two platforms; raises what should not be raised."""
    recipes = matrix.plan(study)
    platforms = [platform("x86_64,avx2,1.17.3"), platform("aarch64,asimddp,1.23.2")]
    plan_build(study, recipes, read_model(study.model.path), platforms)
    return recipes


def _examine(folder: Path, facts: ModelFacts) -> dict[str, Any]:
    data = str(folder / "inputs.npz") if (folder / "inputs.npz").exists() else "random"
    study = study_of(folder, facts, data)
    recipes = planned(study)
    with tempfile.TemporaryDirectory(prefix="coverage-") as scratch:
        out = Path(scratch)
        variants, without = _build(study, out, recipes)
        source = onnx.load(folder / "model.onnx")
        feed = _feed(folder) if data != "random" else None
        reference, reason = _run(out / "fp32.onnx", feed)
        found: dict[str, Any] = {"recipes": {}, "ops": sorted({node.op_type for node in nodes(source)})}
        if reason:
            found["fp32"] = reason
        found["recipes"] = {
            variant.name: _outcome(variant, source, feed, reference, runs=reason is None)
            for variant in variants
            if variant.name != "fp32"
        }
        if without:
            failed = {"outcome": "failed", "reason": without.replace(f"{folder}/", "")}
            outcome = failed if _is_known(source) else {"outcome": "nothing"}
            found["recipes"] |= {recipe.name: outcome for recipe in recipes if recipe.method == "static"}
    return found


def _build(study: Study, out: Path, recipes: Sequence[Recipe]) -> tuple[tuple[Variant, ...], str | None]:
    """Make the variants; where no data fit the model, those that need none, and say why."""
    reason = None
    for data in dict.fromkeys((study.model.calibration, "random")):
        try:
            return build(
                study.model_copy(update={"model": study.model.model_copy(update={"calibration": data})}), out, recipes=recipes
            ), None
        except DataError as exc:
            reason = reason or str(exc)
    return build(study, out, recipes=[recipe for recipe in recipes if recipe.method != "static"]), reason


def _outcome(
    variant: Variant, source: onnx.ModelProto, feed: dict[str, Any] | None, reference: list[Any] | None, *, runs: bool
) -> dict[str, Any]:
    # Calibration may fail where there is nothing to calibrate for, and no array of ours holds some inputs, such as numbers of 8 bits.
    idle = variant.recipe.method == "static" and not _is_known(source)
    if NO_WEIGHTS in (variant.reason or "") or (_touched(variant.path) <= _touched(source) if variant.path else idle):
        return {"outcome": "nothing"}
    if variant.path is None:
        return {"outcome": variant.state, "reason": variant.reason}
    outputs, reason = _run(variant.path, feed)
    if not runs:
        return {"outcome": "no fp32"}
    if reason:
        return {"outcome": "not run", "reason": reason}
    shapes = [[_shape(each) for each in one or []] for one in (reference, outputs)]
    if shapes[0] != shapes[1]:
        return {"outcome": "not run", "reason": f"outputs of other shapes: {shapes[1]} instead of {shapes[0]}"}
    return {"outcome": "quantized", "sqnr": _sqnr(reference, outputs), "notes": list(variant.notes)}


def _is_known(source: onnx.ModelProto) -> bool:
    """Say whether the static tools have a quantizer for any node."""
    return any(node.op_type in STATIC_OPS for node in source.graph.node)


def _touched(model: Path | onnx.ModelProto) -> int:
    """Count what a recipe leaves in a model: quantized nodes, half-precision tensors and casts."""
    proto = onnx.load(model) if isinstance(model, Path) else model
    casts = (a.i == HALF for n in nodes(proto) if n.op_type == "Cast" for a in n.attribute if a.name == "to")
    half = (tensor.data_type == HALF for tensor in tensors(proto))
    quantized = (is_quantized(node.op_type) for node in nodes(proto))
    return sum(map(bool, (*casts, *half, *quantized)))


def _feed(folder: Path) -> dict[str, Any]:
    with np.load(folder / "inputs.npz") as given:
        return {name: given[name][0] if given[name].ndim else given[name] for name in given.files}


def _run(path: Path, feed: dict[str, Any] | None) -> tuple[list[Any] | None, str | None]:
    """Load a model, and run it where there is something to feed; gives its outputs, or why not."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        with quiet():
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            return (None if feed is None else session.run(None, feed)), None
    except Exception as exc:  # noqa: BLE001 - onnxruntime's exceptions have no common base
        return None, reason_of(exc, [path.parent])


def _shape(output: Any) -> Any:  # noqa: ANN401 - an array, or a sequence of them
    return [_shape(each) for each in output] if isinstance(output, list) else np.shape(output)


def _sqnr(reference: list[Any] | None, outputs: list[Any] | None) -> float | None:
    pairs = [
        pair for pair in zip(reference or [], outputs or [], strict=True) if all(isinstance(each, np.ndarray) for each in pair)
    ]
    try:
        found = fidelity.compare([[left for left, _ in pairs]], [[right for _, right in pairs]]).sqnr_db if pairs else None
    except (DataError, TypeError):
        return None
    return round(found, 1) if found is not None and np.isfinite(found) else None


def main() -> None:
    """Answer until standard input ends; whatever libraries print goes nowhere."""
    answers = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for line in sys.stdin:
        answers.write(json.dumps(examine(Path.cwd() / line.strip())) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
