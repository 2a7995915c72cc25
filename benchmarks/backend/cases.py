"""The models of the onnx package's backend tests, written to a folder: the files that the package ships, and those that it builds of each operator."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.backend.test.loader import load_node_model_tests

if TYPE_CHECKING:
    from collections.abc import Sequence

MODEL, INPUTS = "model.onnx", "inputs.npz"


def write(folder: Path) -> list[str]:
    """Write each model as ``KIND/NAME/model.onnx``, with the inputs of its first data set in ``inputs.npz`` where numpy can hold them.

    What is there already is left as it is.

    Returns:
        Every ``KIND/NAME``, sorted.
    """
    done = folder / f"complete-{onnx.__version__}"
    if not done.exists():
        for path in sorted((Path(onnx.__file__).parent / "backend" / "test" / "data").rglob("*.onnx")):
            _write_shipped(folder, path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of numpy, about the divisions by zero that are tested
            for case in load_node_model_tests():
                if case.model:
                    inputs = case.data_sets[0][0] if case.data_sets else ()
                    _write(folder / "node" / case.name, case.model, inputs)
        done.touch()
    return sorted(str(path.parent.relative_to(folder)) for path in folder.rglob(MODEL))


def _write_shipped(folder: Path, path: Path) -> None:
    """Copy a model of the package; its inputs lie in a folder beside it, if anywhere."""
    if path.name == MODEL:
        kind, name = path.parent.parent.name, path.parent.name
        files = sorted((path.parent / "test_data_set_0").glob("input_*.pb"), key=lambda file: int(file.stem.split("_")[1]))
    else:
        kind, name, files = path.parent.name, path.stem, []
    try:
        inputs = [TensorProto.FromString(file.read_bytes()) for file in files]
    except Exception:  # noqa: BLE001 - a sequence or an optional, which is no tensor
        inputs = []
    _write(folder / kind / name, onnx.load(path), inputs)


def _write(folder: Path, model: onnx.ModelProto, inputs: Sequence[Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL).write_bytes(model.SerializeToString())
    try:
        # An axis more than the input: one whole input for each of its entries.
        arrays = {
            value.name: np.asarray(numpy_helper.to_array(given) if isinstance(given, TensorProto) else given)
            for value, given in zip(model.graph.input, inputs, strict=True)
        }
        plain = {name: array[np.newaxis] if array.ndim else array for name, array in arrays.items()}
    except Exception:  # noqa: BLE001 - fewer inputs than the model has, text, sequences
        return
    if all(array.dtype.isbuiltin == 1 and array.dtype.kind in "fiub" for array in plain.values()):
        np.savez(folder / INPUTS, allow_pickle=False, **plain)
