"""A model is run twice on the same inputs, and what differs is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.quantize.verify import differing_node, reproducibility
from harness.quantize.verify.session import open_session
from tests.quantize.model.test_random_nodes import RATIO, SHAPE, TRUE, constant, dropout, model, noise, value

if TYPE_CHECKING:
    from pathlib import Path

FEEDS = [{"x": np.full(SHAPE, index + 1, np.float32)} for index in range(4)]


def saved(tmp_path: Path, made: onnx.ModelProto) -> Path:
    onnx.save(made, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_a_plain_model_reproduces_itself(tmp_path: Path) -> None:
    assert reproducibility.differs(saved(tmp_path, model([helper.make_node("Softmax", ["x"], ["y"])])), FEEDS) is None


@pytest.mark.parametrize(
    ("nodes", "constants", "cause"),
    [
        (noise(), [], "RandomNormalLike 'noise'"),
        (noise(seed=7.0), [], "RandomNormalLike 'noise'"),
        (dropout("r", "t"), [RATIO, TRUE], "Dropout 'drop'"),
        # onnxruntime's optimizer makes one constant of it: the same on each call of a session.
        (
            [helper.make_node("Bernoulli", ["p"], ["n"], name="coin"), helper.make_node("Add", ["x", "n"], ["y"])],
            [constant("p", np.full(SHAPE, 0.5))],
            "Bernoulli 'coin'",
        ),
    ],
)
def test_random_models_are_found_and_the_node_is_named(tmp_path: Path, nodes: Any, constants: Any, cause: str) -> None:
    path = saved(tmp_path, model(nodes, constants))
    earlier = [open_session(path).run(None, FEEDS[0])]
    found = reproducibility.differs(path, FEEDS, earlier)
    assert found is not None
    assert (found.outputs, found.others, found.causes) == (("y",), (), cause)
    assert cause in found.sentence
    assert "left out for output 'y'" in found.sentence


def test_other_outputs_are_told_apart(tmp_path: Path) -> None:
    made = model([*noise(), helper.make_node("Relu", ["x"], ["z"])])
    made.graph.output.append(value("z"))
    found = reproducibility.differs(saved(tmp_path, made), FEEDS)
    assert found is not None
    assert (found.outputs, found.others) == (("y",), ("z",))
    assert "of output 'z' alone" in found.sentence


def test_another_session_counts_too(tmp_path: Path) -> None:
    path = saved(tmp_path, model([helper.make_node("Relu", ["x"], ["y"], name="relu")]))
    found = reproducibility.differs(path, FEEDS, [[np.zeros(SHAPE, np.float32)]])
    assert found is not None
    assert found.causes == ""
    assert "no node was found" in found.sentence


def test_shapes_that_differ(tmp_path: Path) -> None:
    nodes = [*noise()[:1], helper.make_node("Greater", ["n", "zero"], ["g"]), helper.make_node("NonZero", ["g"], ["y"])]
    made = model(nodes, [constant("zero", 0)])
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", onnx.TensorProto.INT64, [2, None]))
    assert reproducibility.differs(saved(tmp_path, made), FEEDS) is not None


def test_the_first_node_that_differs_is_found_without_knowing_it(tmp_path: Path) -> None:
    path = saved(tmp_path, model([helper.make_node("Relu", ["x"], ["a"], name="relu"), *noise()]))
    assert differing_node.find(path, FEEDS[0]) == "RandomNormalLike 'noise'"


def test_no_node_differs(tmp_path: Path) -> None:
    assert differing_node.find(saved(tmp_path, model([helper.make_node("Relu", ["x"], ["y"])])), FEEDS[0]) is None


def test_random_nodes_that_made_no_difference_are_told(tmp_path: Path) -> None:
    nodes = [*noise()[:1], helper.make_node("Sub", ["n", "n"], ["z"]), helper.make_node("Add", ["x", "z"], ["y"])]
    made = model(nodes)
    assert reproducibility.differs(saved(tmp_path, made), FEEDS) is None
    assert "RandomNormalLike 'noise'" in (reproducibility.suspicion(made) or "")
    assert reproducibility.suspicion(model([helper.make_node("Relu", ["x"], ["y"])])) is None
