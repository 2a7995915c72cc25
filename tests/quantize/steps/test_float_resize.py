"""What a cubic Resize makes of an edge stays beside the edge's values, and does not wrap to the other end of the range."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.quantize.steps.models import model, node, samples, weights

if TYPE_CHECKING:
    from tests.quantize.steps.conftest import Bench

KINDS = (
    '[variants]\nmethods = ["static"]\nformats = ["QDQ", "QOperator"]\nactivations = ["QUInt8", "QInt8"]\nweights = ["QInt8"]\n'
)


@pytest.mark.parametrize(
    ("how", "scale"),
    [
        ({"mode": "cubic", "coordinate_transformation_mode": "half_pixel"}, 1.5),
        ({"mode": "linear", "antialias": 1}, 1.5),
        ({"mode": "linear", "antialias": 1}, 0.4),
        ({"mode": "cubic", "antialias": 1, "exclude_outside": 1}, 0.4),
    ],
)
def test_overshoot_is_cut(bench: Bench, how: dict[str, Any], scale: float) -> None:
    nodes = [
        node("Conv", "x w", "a", pads=[1, 1, 1, 1]),
        node("Resize", "a - scales", "r", "the resize", **how),
        node("Conv", "r v", "y"),
    ]
    stored = {"w": weights(6, 3, 3, 3), "v": weights(4, 6, 1, 1), "scales": np.array([1, 1, scale, scale], np.float32)}
    blocks = np.sign(samples(8, 3, 4, 4)).repeat(3, 1).reshape(8, 3, 3, 4, 4)[:, :, 0].repeat(3, 2).repeat(3, 3)
    bench.save(model(nodes, {"x": [1, 3, 12, 12]}, ["y"], stored, opset=18), x=blocks.astype(np.float32))
    variants = bench.build(KINDS)
    found = bench.fidelity(variants)
    assert min(found.values()) > 25, found
    told = {
        name for name, each in variants.items() if any("float-resize" in note and "'the resize'" in note for note in each.notes)
    }
    assert told == {"static-QOperator-S8S8"}


@pytest.mark.parametrize(("value", "kept"), [(0.0, 2), (-9.0, 4), (100.0, 4)])
def test_what_lies_outside_the_image(bench: Bench, value: float, kept: int) -> None:
    how: dict[str, Any] = {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": value}
    stored = {
        "w": weights(6, 3, 3, 3),
        "v": weights(4, 6, 1, 1),
        "roi": np.array([0, 0, 0.1, 0.1, 1, 1, 0.9, 1.2], np.float32),
        "scales": np.array([1, 1, 1.5, 1.5], np.float32),
    }
    nodes = [node("Conv", "x w", "a"), node("Resize", "a roi scales", "r", "the crop", **how), node("Conv", "r v", "y")]
    bench.save(model(nodes, {"x": [1, 3, 12, 12]}, ["y"], stored), x=samples(16, 3, 12, 12))
    variants = bench.build(KINDS)
    assert min(bench.fidelity(variants).values()) > 20
    assert sum(any("float-resize" in note and "'the crop'" in note for note in each.notes) for each in variants.values()) == kept
