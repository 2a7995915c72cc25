"""Pad and Resize that name their axes compute the same beside quantized convolutions, where onnxruntime has optimized the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.quantize.steps.models import model, node, samples, weights

if TYPE_CHECKING:
    from onnx import NodeProto

    from tests.quantize.steps.conftest import Bench

KINDS = '[variants]\nmethods = ["static"]\nformats = ["QDQ", "QOperator"]\nactivations = ["QUInt8"]\nweights = ["QInt8"]\n'
CONSTANTS: dict[str, Any] = {
    "w": weights(6, 3, 3, 3),
    "v": weights(4, 6, 3, 3),
    "axes": np.array([2, 3]),
    "last": np.array([-1, -2]),
    "every": np.array([0, 1, 3, 2]),
    "pads": np.array([1, 2, 1, 0]),
    "all pads": np.array([0, 0, 2, 0, 0, 0, 0, 2]),
    "scales": np.array([2, 1.5], np.float32),
    "all scales": np.array([1, 1, 2, 1], np.float32),
    "sizes": np.array([20, 24]),
    "roi": np.array([0.1, 0.1, 0.9, 0.9], np.float32),
    "one": np.array(1),
    "one and a half": np.array(1.5, np.float32),
}
CONSTANTS = {name.replace(" ", "_"): array for name, array in CONSTANTS.items()}
MIDDLES: dict[str, list[NodeProto]] = {
    "pad": [node("Pad", "a pads - axes", "q", "the node")],
    "pad by reflection": [node("Pad", "a pads - last", "q", "the node", mode="reflect")],
    "pad of all axes": [node("Pad", "a all_pads - every", "q", "the node")],
    "computed pad": [node("Mul", "pads one", "p"), node("Pad", "a p - axes", "q", "the node")],
    "scales": [node("Resize", "a - scales", "q", "the node", axes=[2, 3])],
    "scales of all axes": [node("Resize", "a - all_scales", "q", "the node", axes=[0, 1, 3, 2])],
    "sizes": [node("Resize", "a - - sizes", "q", "the node", axes=[-2, -1], mode="linear")],
    "sizes in another order": [node("Resize", "a - - sizes", "q", "the node", axes=[3, 2])],
    "cut out": [
        node(
            "Resize",
            "a roi scales",
            "q",
            "the node",
            axes=[2, 3],
            coordinate_transformation_mode="tf_crop_and_resize",
            mode="linear",
        )
    ],
    "computed scales": [node("Mul", "scales one_and_a_half", "s"), node("Resize", "a - s", "q", "the node", axes=[2, 3])],
}


@pytest.mark.parametrize("middle", MIDDLES)
def test_named_axes(bench: Bench, middle: str) -> None:
    nodes = [node("Conv", "x w", "a"), *MIDDLES[middle], node("Conv", "q v", "y")]
    bench.save(model(nodes, {"x": [1, 3, 12, 12]}, ["y"], CONSTANTS, opset=18), x=samples(16, 3, 12, 12))
    variants = bench.build(KINDS)
    found = bench.fidelity(variants)
    assert len(found) == 3
    assert min(found.values()) > 25, found
    for name, variant in variants.items():
        assert name == "fp32" or any(note.startswith("expand-axes") and "'the node'" in note for note in variant.notes)


def test_pads_without_axes_are_left_alone(bench: Bench) -> None:
    pads = {**CONSTANTS, "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])}
    nodes = [node("Conv", "x w", "a"), node("Pad", "a pads", "q"), node("Conv", "q v", "y")]
    bench.save(model(nodes, {"x": [1, 3, 12, 12]}, ["y"], pads, opset=18), x=samples(16, 3, 12, 12))
    assert not [note for variant in bench.build(KINDS).values() for note in variant.notes if "expand-axes" in note]
