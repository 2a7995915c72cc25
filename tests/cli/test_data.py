"""Data of every kind from the command line, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tests.models import images, tiny_cnn

if TYPE_CHECKING:
    from tests.cli.conftest import Command

STUDY = """
name = "tiny"
[model]
path = "model.onnx"
dims = { batch = 1 }
calibration = { images = "photos"DETAILS }
evaluation = "evaluation.npz"
[variants]
methods = ["static"]
formats = ["QDQ"]
activations = ["QUInt8"]
weights = ["QInt8"]
"""


def write(details: str) -> None:
    """Write a study of grey images and of normalised evaluation data."""
    tiny_cnn(Path("model.onnx"))
    rng = np.random.default_rng(0)
    Path("photos").mkdir()
    for number in range(12):
        Image.fromarray(rng.integers(0, 256, (9, 9), np.uint8)).save(f"photos/{number:02}.png")
    np.savez("evaluation.npz", x=images(8) / 2)
    Path("study.toml").write_text(STUDY.replace("DETAILS", details), encoding="utf-8")


def test_images_calibrate_and_the_lint_is_heard(harness: Command) -> None:
    write("")
    done = harness("quantize", "study.toml", "-o", "out", "--json")
    assert done.code == 0, done
    told = json.loads(done.out)
    assert [variant["state"] for variant in told["variants"]] == ["made", "made"]
    taken, range_ = told["warnings"]
    assert "images are fed as grey scaled to 0..1" in taken
    assert "values of 0 to 1 look like pixels that were not normalised" in range_
    shown = harness("quantize", "study.toml", "-o", "out")
    assert "prepare both the same way" in " ".join(shown.out.split())


def test_what_is_prepared_alike_is_left_alone(harness: Command) -> None:
    write(", mean = 0.5, std = 0.25")
    done = harness("quantize", "study.toml", "-o", "out", "--json")
    assert json.loads(done.out)["warnings"] == []


def test_a_distribution_for_a_bare_model(harness: Command) -> None:
    tiny_cnn(Path("model.onnx"))
    words = ("quantize", "model.onnx", "-o", "out", "--dim", "batch=1", "--variants", "static", "--calibration")
    done = harness(*words, "random:uniform(-1,1);samples=8", "--variant", "static-QDQ-U8S8", "--json")
    assert done.code == 0, done
    assert json.loads(done.out)["warnings"] == ["the calibration data are random, so accuracy figures mean nothing"]
    refused = harness(*words, "random:unifrom(0,1)")
    assert refused.code == 2
    assert "did you mean 'uniform'?" in refused.err


def test_a_table_with_a_slip_of_the_pen(harness: Command) -> None:
    write(", meen = 0.5")
    refused = harness("quantize", "study.toml", "-o", "out")
    assert refused.code == 2
    assert "study.toml:6: unknown key 'model.calibration.meen'; did you mean 'mean'?" in refused.err
