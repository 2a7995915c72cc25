"""Make a digits model that takes normalised images, as most image models do, and its data: written to models/ beside this file.

    python studies/digits/normalised.py

The model is model.onnx with a Mul and an Add before it that undo the normalisation. So it is exactly as accurate, and its inputs have mean 0 and standard deviation 1.
``normalised.toml`` calibrates it with data that were not normalised.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

HERE = Path(__file__).resolve().parent
INPUT, PIXELS, SCALED = "image", "pixels", "scaled"


def main() -> None:
    """Write the model and the data."""
    folder = HERE / "models"
    folder.mkdir(exist_ok=True)
    with np.load(HERE / "calibration.npz") as calibration, np.load(HERE / "evaluation.npz") as evaluation:
        images, held_out, labels = calibration[INPUT], evaluation[INPUT], evaluation["labels"]
    mean, std = images.mean(), images.std()
    model = onnx.load(HERE / "model.onnx")
    for node in model.graph.node:
        node.input[:] = [PIXELS if name == INPUT else name for name in node.input]
    model.graph.initializer.extend(
        [numpy_helper.from_array(np.array(std), "std"), numpy_helper.from_array(np.array(mean), "mean")]
    )
    model.graph.node.insert(0, helper.make_node("Mul", [INPUT, "std"], [SCALED], "input_mul"))
    model.graph.node.insert(1, helper.make_node("Add", [SCALED, "mean"], [PIXELS], "input_add"))
    onnx.checker.check_model(model)
    onnx.save(model, folder / "normalised.onnx")
    np.savez_compressed(folder / "normalised-calibration.npz", **{INPUT: (images - mean) / std})
    np.savez_compressed(folder / "normalised-evaluation.npz", **{INPUT: (held_out - mean) / std, "labels": labels})


if __name__ == "__main__":
    main()
