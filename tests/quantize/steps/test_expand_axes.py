"""Pad, Resize and CenterCropPad with some axes: written over all axes they compute exactly the same, and their variants run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from harness.quantize.recipe import Recipe
from harness.quantize.steps import expand_axes
from tests.quantize.steps.conftest import run
from tests.quantize.steps.models import model, node, samples, weights

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tests.quantize.steps.conftest import Bench

    Array = NDArray[Any]

FORMATS = '[variants]\nmethods = ["static"]\nformats = ["QDQ", "QOperator"]\nactivations = ["QUInt8"]\nweights = ["QInt8"]\n'
STATIC = Recipe(name="t", method="static")


class Case(NamedTuple):
    """A node between two convolutions, q of a.

    Attributes:
        kind: of the node.
        inputs: of the node.
        constants: those that it takes.
        attributes: of the node.
    """

    kind: str
    inputs: str
    constants: Mapping[str, Array]
    attributes: Mapping[str, Any]


def whole(*values: int) -> Array:
    return np.array(values, np.int64)


def floats(*values: float) -> Array:
    return np.array(values, np.float32)


CASES = {
    "pad": Case("Pad", "a p - axes", {"p": whole(1, 1, 2, 1), "axes": whole(2, 3)}, {}),
    "pad with a value": Case(
        "Pad", "a p v axes", {"p": whole(1, 1, 2, 1), "axes": whole(2, 3), "v": np.array(0.5, np.float32)}, {}
    ),
    "negative axes in another order": Case(
        "Pad", "a p - axes", {"p": whole(2, 0, 1, 0), "axes": whole(-1, -2)}, {"mode": "edge"}
    ),
    "all axes in another order": Case("Pad", "a p - axes", {"p": whole(0, 0, 2, 0, 0, 0, 0, 2), "axes": whole(0, 1, 3, 2)}, {}),
    "one axis": Case("Pad", "a p - axes", {"p": whole(3, 1), "axes": whole(-1)}, {"mode": "reflect"}),
    "scales beside an empty region": Case("Resize", "a e s", {"s": floats(2, 1.5), "e": floats()}, {"axes": [2, 3]}),
    "scales": Case("Resize", "a - s", {"s": floats(2, 1.5)}, {"axes": [2, 3], "mode": "nearest"}),
    "scales in another order": Case("Resize", "a - s", {"s": floats(1, 1, 2, 1)}, {"axes": [0, 1, 3, 2], "mode": "nearest"}),
    "sizes": Case("Resize", "a - - s", {"s": whole(20, 17)}, {"axes": [-1, -2], "mode": "linear"}),
    "a region": Case(
        "Resize",
        "a roi - s",
        {"s": whole(15, 17), "roi": floats(0.1, 0.1, 0.8, 0.9)},
        {"axes": [2, 3], "mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"},
    ),
    "a region and scales": Case(
        "Resize",
        "a roi s",
        {"s": floats(2, 1.5), "roi": floats(0.1, 0.1, 0.9, 0.9)},
        {"axes": [2, 3], "mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"},
    ),
    "the smaller ratio": Case(
        "Resize", "a - - s", {"s": whole(20, 17)}, {"axes": [2, 3], "keep_aspect_ratio_policy": "not_larger", "mode": "linear"}
    ),
    "the larger ratio": Case(
        "Resize", "a - - s", {"s": whole(20, 17)}, {"axes": [3, 2], "keep_aspect_ratio_policy": "not_smaller"}
    ),
    "crop and pad": Case("CenterCropPad", "a s", {"s": whole(8, 13)}, {"axes": [2, 3]}),
}


def between(case: Case, batch: int | str = 1, computed: tuple[str, ...] = ()) -> onnx.ModelProto:
    """Such a node between two convolutions; some of its constants as inputs of the model."""
    nodes = [
        node("Conv", "x w", "a"),
        node(case.kind, case.inputs, "q", "the node", **case.attributes),
        node("Conv", "q u", "y"),
    ]
    fed: dict[str, Any] = {name: list(case.constants[name].shape) for name in computed}
    kinds = {name: TensorProto.FLOAT if case.constants[name].dtype == np.float32 else TensorProto.INT64 for name in computed}
    stored = {name: value for name, value in case.constants.items() if name not in computed}
    stored |= {"w": weights(6, 3, 3, 3), "u": weights(4, 6, 2, 2)}
    return model(nodes, {"x": [batch, 3, 12, 12], **fed}, {"y": list("abcd")}, stored, opset=18, types=kinds)


@pytest.mark.parametrize("batch", [1, "n"])
@pytest.mark.parametrize("name", CASES)
def test_fp32_is_unchanged(name: str, batch: int | str) -> None:
    case, feed = CASES[name], {"x": samples(1, 3, 12, 12)}
    for computed in ((), tuple(key for key in case.constants if key != "v")):
        made = between(case, batch, computed)
        fed = feed | {key: case.constants[key] for key in computed}
        reference = run(made.SerializeToString(), fed)
        found = expand_axes.find(made, STATIC)
        if not found:
            assert "ratio" in name, "a Resize that keeps the ratio of computed sizes"
            assert computed
            continue
        changes = expand_axes.rewrite(made, found)
        assert len(changes.notes) == 1
        assert "'the node'" in changes.notes[0]
        onnx.checker.check_model(made, full_check=True)
        assert not expand_axes.find(made, STATIC)
        for one, other in zip(reference, run(made.SerializeToString(), fed), strict=True):
            np.testing.assert_array_equal(one, other)


def test_convolutions_tell_how_many_axes_there_are() -> None:
    made = between(CASES["pad"])
    shape = node("Reshape", "y s", "r")
    convolution = [node("Pad", "r p - axes", "b"), node("Conv", "b t", "z")]
    made.graph.node.extend([shape, *convolution])
    made.graph.input.append(onnx.helper.make_tensor_value_info("s", TensorProto.INT64, ["rank"]))
    made.graph.initializer.append(onnx.numpy_helper.from_array(weights(2, 4, 1, 1), "t"))
    del made.graph.value_info[:]
    assert len(expand_axes.find(made, STATIC)) == 2


def test_nothing_is_done_where_no_axes_are_named_or_all_in_order() -> None:
    pads = {"p": whole(0, 0, 1, 1, 0, 0, 1, 1), "axes": whole(0, 1, -2, 3)}
    for case in (
        Case("Pad", "a p", pads, {}),
        Case("Pad", "a p - axes", pads, {}),
        Case("Resize", "a - s", {"s": floats(1, 1, 2, 2)}, {"axes": [0, 1, 2, 3]}),
    ):
        assert not expand_axes.find(between(case), STATIC)


@pytest.mark.parametrize(
    "name", ["pad", "all axes in another order", "scales", "scales in another order", "sizes", "crop and pad"]
)
def test_variants_run(bench: Bench, name: str) -> None:
    bench.save(between(CASES[name]), x=samples(8, 3, 12, 12))
    variants = bench.build(FORMATS)
    found = bench.fidelity(variants)
    assert len(found) == 3, {each.name: each.reason for each in variants.values()}
    assert min(found.values()) > 25, found
    assert all(
        "between 8-bit convolutions: 'the node'" in " ".join(each.notes) for each in variants.values() if each.name != "fp32"
    )


def test_a_skipped_step_leaves_the_node(bench: Bench) -> None:
    bench.save(between(CASES["pad"]), x=samples(8, 3, 12, 12))
    variants = bench.build(f'{FORMATS}skip_steps = ["expand-axes"]\n')
    paths = [each.path for each in variants.values() if each.name != "fp32" and each.path is not None]
    pads = [each for path in paths for each in onnx.load(path).graph.node if each.op_type == "Pad"]
    assert [len(each.input) for each in pads] == [4, 4]


def test_a_note_names_what_can_not_be_written(bench: Bench) -> None:
    said = {"axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"}
    # Of 10 rows and 11 columns it makes 15 and 16.5, and no scale gives 17 columns as the rounding does.
    made = between(Case("Resize", "a - - s", {"s": whole(15, 19)}, said))
    made.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 13
    bench.save(made, x=samples(8, 3, 12, 13))
    for each in bench.build(FORMATS).values():
        assert each.name == "fp32" or any("expand-axes: 'the node' can't be rewritten" in note for note in each.notes), each.notes
