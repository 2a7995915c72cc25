"""Models in which one place is known to ruin int8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.models import make_model

FEATURES, WIDTH, CLASSES = 16, 32, 4
STUDY = """\
name = "ruined"
[model]
path = "model.onnx"
calibration = "data.npz"
evaluation = "data.npz"
[variants]
methods = []
"""


def ruined_weight(path: Path) -> Path:
    """Write three MatMul, of which ``bad`` has a huge weight that multiplies a feature which is always zero: x [1, 16] -> y [1, 4].

    In float it changes nothing; in int8 it makes the scale of all other weights of ``bad`` a thousand times too coarse.
    """
    rng = np.random.default_rng(5)
    weights = {
        name: rng.standard_normal(shape).astype(np.float32)
        for name, shape in {"w1": (FEATURES, WIDTH), "w2": (WIDTH, WIDTH), "w3": (WIDTH, CLASSES)}.items()
    }
    weights["w1"][:, 0] = 0
    weights["w2"][0, 1] = 1000
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], "good"),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "w2"], ["b"], "bad"),
        helper.make_node("Tanh", ["b"], ["t"], "tanh"),
        helper.make_node("MatMul", ["t", "w3"], ["y"], "last"),
    ]
    onnx.save(make_model(nodes, {"x": [1, FEATURES]}, {"y": [1, CLASSES]}, weights), path)
    return path


def ruined_tensor(path: Path) -> Path:
    """Write a tail like a detector's: small scores joined with coordinates in the hundreds; only the scores reach the output y [1, 16].

    The tensor between ``join`` and ``pick`` is ruined while any of the two is quantized.
    """
    rng = np.random.default_rng(6)
    weights = {
        "w1": rng.standard_normal((FEATURES, FEATURES)).astype(np.float32),
        "w2": (3000 * rng.standard_normal((FEATURES, FEATURES))).astype(np.float32),
        "w3": np.concatenate([np.eye(FEATURES), np.zeros((FEATURES, FEATURES))]).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["scores"], "scoring"),
        helper.make_node("MatMul", ["x", "w2"], ["places"], "placing"),
        helper.make_node("Concat", ["scores", "places"], ["joined"], "join", axis=1),
        helper.make_node("MatMul", ["joined", "w3"], ["y"], "pick"),
    ]
    onnx.save(make_model(nodes, {"x": [1, FEATURES]}, {"y": [1, FEATURES]}, weights), path)
    return path


def write_study(folder: Path, more: str) -> Path:
    """Write a study of the model.onnx in a folder, with data for it."""
    data = np.random.default_rng(7).standard_normal((24, FEATURES)).astype(np.float32)
    np.savez(folder / "data.npz", x=data)
    (folder / "study.toml").write_text(STUDY + more)
    return folder / "study.toml"


@pytest.fixture
def ruined(tmp_path: Path) -> Path:
    """A folder with the model of :func:`ruined_weight`."""
    ruined_weight(tmp_path / "model.onnx")
    return tmp_path
