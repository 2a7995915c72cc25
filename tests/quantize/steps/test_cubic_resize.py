"""What a cubic Resize makes of an edge stays beside the edge's values, and does not wrap to the other end of the range."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.quantize.steps.models import model, node, samples, weights

if TYPE_CHECKING:
    from tests.quantize.steps.conftest import Bench

KINDS = (
    '[variants]\nmethods = ["static"]\nformats = ["QDQ", "QOperator"]\nactivations = ["QUInt8", "QInt8"]\nweights = ["QInt8"]\n'
)


def test_overshoot_is_cut(bench: Bench) -> None:
    nodes = [
        node("Conv", "x w", "a", pads=[1, 1, 1, 1]),
        node("Resize", "a - scales", "r", "the resize", mode="cubic", coordinate_transformation_mode="half_pixel"),
        node("Conv", "r v", "y"),
    ]
    stored = {"w": weights(6, 3, 3, 3), "v": weights(4, 6, 1, 1), "scales": np.array([1, 1, 1.5, 1.5], np.float32)}
    blocks = np.sign(samples(8, 3, 4, 4)).repeat(3, 1).reshape(8, 3, 3, 4, 4)[:, :, 0].repeat(3, 2).repeat(3, 3)
    bench.save(model(nodes, {"x": [1, 3, 12, 12]}, ["y"], stored), x=blocks.astype(np.float32))
    variants = bench.build(KINDS)
    found = bench.fidelity(variants)
    assert min(found.values()) > 25, found
    told = {
        name
        for name, each in variants.items()
        if any("float-cubic-resize" in note and "'the resize'" in note for note in each.notes)
    }
    assert told == {"static-QOperator-S8S8"}
