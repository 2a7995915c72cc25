"""Names of nodes through the preparation, on the real tool."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.quantize.build import build
from harness.quantize.model.graph import is_quantized
from harness.quantize.model.model import open_model
from harness.quantize.model.names import Graphs
from harness.quantize.planning.inspect import inspect_model
from harness.quantize.prepare import prepare
from harness.quantize.reasons import RecipeError
from harness.study import study as studies
from tests.models import make_model, tiny_cnn

if TYPE_CHECKING:
    from harness.quantize.recipe import Variant


def folding(path: Path) -> Path:
    """Write what the preparation folds: Pad, Conv, BatchNormalization and a Cast of the weights into one Conv, MatMul and Add into a Gemm."""
    rng = np.random.default_rng(0)

    def noise(*shape: int) -> np.ndarray:
        return np.abs(rng.normal(size=shape)).astype(np.float32)

    weights = {
        "w": noise(4, 3, 3, 3),
        "s": noise(4),
        "b": noise(4),
        "m": noise(4),
        "v": noise(4),
        "f": noise(4, 5),
        "c": noise(5),
    }
    nodes = [
        helper.make_node("Identity", ["x"], ["i"], "body/drop"),
        helper.make_node("Abs", ["w"], ["a"], "body/abs"),
        helper.make_node("Conv", ["i", "a"], ["k"], "body/conv"),
        helper.make_node("BatchNormalization", ["k", "s", "b", "m", "v"], ["n"], "body/norm"),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["q"], "flatten"),
        helper.make_node("MatMul", ["q", "f"], ["t"], "head/mul"),
        helper.make_node("Add", ["t", "c"], ["y"], "head/add"),
    ]
    onnx.save(make_model(nodes, {"x": [1, 3, 8, 8]}, {"y": [1, 5]}, weights), path)
    return path


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Graphs:
    folder = tmp_path_factory.mktemp("folding")
    source = open_model(folding(folder / "m.onnx"))
    prepared = prepare(source, folder)
    return Graphs(source.proto.graph, prepared.proto.graph)


GEMM = "head/mul/MatMulAddFusion"


def test_the_tool_folds_what_is_said_here(graphs: Graphs) -> None:
    assert [node.name for node in graphs.prepared.node] == ["body/conv", "Relu_4", "pool", "flatten", GEMM]


@pytest.mark.parametrize(
    ("globs", "names", "notes"),
    [
        (["body/conv"], ["body/conv"], ()),
        (["body/norm"], ["body/conv"], ("k: in the prepared model 'body/norm' is part of 'body/conv'",)),
        (["head/add"], [GEMM], (f"k: in the prepared model 'head/add' is part of '{GEMM}'",)),
        (["head/mul"], [GEMM], (f"k: in the prepared model 'head/mul' is part of '{GEMM}'",)),
        ([GEMM], [GEMM], ()),
        (["*Fusion"], [GEMM], ()),
        (["body/drop"], ["body/conv"], ("k: in the prepared model 'body/drop' is part of 'body/conv'",)),
        (["body/abs"], [], ("k: the prepared model does without 'body/abs': computed in advance, or dropped",)),
        (["Relu_4", "pool"], ["Relu_4", "pool"], ()),
        (["body/d*"], [], ("k: the prepared model does without 'body/drop': computed in advance, or dropped",)),
        (["head/ad*"], [GEMM], (f"k: in the prepared model 'head/add' is part of '{GEMM}'",)),
        (["*"], ["body/conv", "Relu_4", "pool", "flatten", GEMM], None),
    ],
)
def test_names_of_both_models_are_taken(
    graphs: Graphs, globs: list[str], names: list[str], notes: tuple[str, ...] | None
) -> None:
    found = graphs.in_prepared("k", globs)
    assert list(found.names) == names
    if notes is not None:
        assert found.notes == notes


@pytest.mark.parametrize(
    ("globs", "names"),
    [
        (["body/norm"], ["body/norm"]),
        ([GEMM], ["head/mul", "head/add"]),
        (["*Fusion", "pool"], ["pool", "head/mul", "head/add"]),
        (["head/*"], ["head/mul", "head/add"]),
    ],
)
def test_and_back(graphs: Graphs, globs: list[str], names: list[str]) -> None:
    assert list(graphs.in_source("k", globs).names) == names


@pytest.mark.parametrize("look_up", ["in_prepared", "in_source"])
@pytest.mark.parametrize(
    ("glob", "hint"),
    [("body/con", "did you mean 'body/conv' or 'body/norm' or 'body/drop'?"), ("zzz*", "the first are body/drop, body/abs")],
)
def test_what_matches_nothing_is_an_error(graphs: Graphs, look_up: str, glob: str, hint: str) -> None:
    with pytest.raises(RecipeError, match=r"nodes: .* matches no node of the model, nor of the prepared one") as caught:
        getattr(graphs, look_up)("nodes", ["pool", glob])
    assert f"'{glob}'" in str(caught.value)
    assert hint in str(caught.value)


def quantized(variant: Variant) -> set[str]:
    assert variant.path, variant.reason
    return {node.op_type for node in onnx.load(variant.path).graph.node if is_quantized(node.op_type)}


def test_a_study_names_nodes_as_inspect_shows_them(tmp_path: Path) -> None:
    path = folding(tmp_path / "m.onnx")
    shown = [node.name for node in inspect_model(path).nodes]
    assert shown[4] == "Relu_4", "it has no name of its own"
    text = f'name = "t"\n[model]\npath = "{path.name}"\ncalibration = "random"\n[variants]\nmethods = []\n'
    for number, name in enumerate(("body/norm", "head/add")):
        text += f'[[variant]]\nname = "v{number}"\nmethod = "dynamic"\nexclude_nodes = ["{name}"]\n'
    (tmp_path / "study.toml").write_text(text)
    _, first, second = build(studies.load(tmp_path / "study.toml"), tmp_path / "out")
    assert "ConvInteger" not in quantized(first)
    assert "MatMulInteger" in quantized(first)
    assert "MatMulInteger" not in quantized(second)
    assert "ConvInteger" in quantized(second)
    assert "exclude_nodes: in the prepared model 'body/norm' is part of 'body/conv'" in first.notes


def test_many_folded_nodes_are_counted(tmp_path: Path) -> None:
    source = open_model(tiny_cnn(tmp_path / "m.onnx")).proto.graph
    gone = type(source)()
    gone.CopyFrom(source)
    del gone.node[:5]
    found = Graphs(source, gone).in_prepared("k", ["*"])
    assert list(found.names) == ["flatten", "head/gemm"]
    assert found.notes == (
        "k: in the prepared model 'conv1' is part of 'flatten', 'relu1' is part of 'flatten', 'conv2' is part of 'flatten' and 2 more",
    )


def test_what_is_in_a_body_cant_be_named() -> None:
    out = helper.make_tensor_value_info("t", 1, [1])
    body = helper.make_graph([helper.make_node("Relu", ["x"], ["t"], "hidden")], "b", [], [out])
    nodes = [
        helper.make_node("Cast", ["x"], ["c"], "cast", to=9),
        helper.make_node("If", ["c"], ["y"], "branch", then_branch=body, else_branch=body),
    ]
    graph = make_model(nodes, {"x": [1]}, {"y": [1]}).graph
    with pytest.raises(RecipeError, match="'hid\\*' is inside of If 'branch'; only nodes of the main graph"):
        Graphs(graph, graph).in_prepared("nodes", ["hid*"])
