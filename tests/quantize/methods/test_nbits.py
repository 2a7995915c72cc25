from __future__ import annotations

import copy
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.quantize.build import build
from harness.quantize.calibration.reader import CopiedReader
from harness.quantize.matrix import plan
from harness.quantize.model.model import read_model
from harness.quantize.planning.planner import plan_build
from harness.study import study as studies
from tests.models import make_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.quantize.recipe import Variant

    Make = Callable[[str], dict[str, Variant]]

K, N = 100, 8


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Build variants of MatMul → Relu → Gemm: x float32 [b, 100] -> y float32 [b, 8]; the preparation leaves both as they are."""
    rng = np.random.default_rng(5)
    weights = {"w1": rng.standard_normal((K, 64)), "w2": rng.standard_normal((N, 64)), "b2": rng.standard_normal(N)}
    layers = [
        helper.make_node("MatMul", ["x", "w1"], ["m"], "up"),
        helper.make_node("Relu", ["m"], ["r"], "relu"),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["y"], "down", transB=1),
    ]
    model = make_model(layers, {"x": ["b", K]}, {"y": ["b", N]}, {name: w.astype(np.float32) for name, w in weights.items()})
    onnx.save(model, tmp_path / "m.onnx")
    np.savez(tmp_path / "c.npz", x=feed()["x"])

    def build_study(more: str) -> dict[str, Variant]:
        text = f'name = "t"\n[model]\npath = "m.onnx"\ndims = {{ b = 4 }}\ncalibration = "c.npz"\n{more}'
        (tmp_path / "study.toml").write_text(text, encoding="utf-8")
        return {variant.name: variant for variant in build(studies.load(tmp_path), tmp_path / "out")}

    return build_study


def feed() -> dict[str, Any]:
    return {"x": np.random.default_rng(6).standard_normal((4, K)).astype(np.float32)}


def sqnr(variant: Variant, reference: Variant) -> float:
    """In dB."""
    outputs = []
    for each in (reference, variant):
        assert each.path is not None, each.reason
        outputs.append(np.asarray(onnxruntime.InferenceSession(each.path).run(None, feed())[0]))
    return float(20 * np.log10(np.linalg.norm(outputs[0]) / np.linalg.norm(outputs[0] - outputs[1])))


def blocks(variant: Variant) -> list[tuple[str, dict[str, Any]]]:
    """The names and attributes of a variant's MatMulNBits."""
    assert variant.path is not None, variant.reason
    return [
        (node.name, {each.name: helper.get_attribute_value(each) for each in node.attribute})
        for node in onnx.load(variant.path).graph.node
        if node.op_type == "MatMulNBits"
    ]


def test_bits_blocks_and_levels(make: Make) -> None:
    found = make(
        '[variants]\nmethods = ["nbits"]\nformats = ["QOperator"]\nbits = [2, 4, 8]\nblock_sizes = [16, 128]\naccuracy_levels = [0, 4]\n'
    )
    reference = found.pop("fp32")
    assert len(found) == 12
    for variant in found.values():
        recipe = variant.recipe
        for name, attributes in blocks(variant):
            assert name in {f"up_Q{recipe.bits}", f"down_MatMul_Q{recipe.bits}"}
            assert (attributes["bits"], attributes["block_size"]) == (recipe.bits, recipe.block_size)
            assert attributes.get("accuracy_level", 0) == recipe.accuracy_level
        # The Gemm is quantized too: its product is a MatMul, its bias an Add.
        assert len(blocks(variant)) == 2
    by_bits = [sqnr(found[f"nbits-{bits}b16-QOperator"], reference) for bits in (2, 4, 8)]
    assert by_bits[0] > 2
    assert by_bits[1] > by_bits[0] + 8
    assert by_bits[2] > by_bits[1] + 15


@pytest.mark.parametrize("algorithm", ["RTN", "k_quant", "GPTQ"])
def test_algorithms(make: Make, algorithm: str) -> None:
    bits = [4] if algorithm == "GPTQ" else [4, 8]
    found = make(
        f'[variants]\nmethods = ["nbits"]\nformats = ["QOperator"]\nalgorithms = ["{algorithm}"]\nbits = {bits}\naccuracy_levels = [4]\n'
        f'[[variant]]\nmethod = "nbits"\nformat = "QOperator"\nalgorithm = "{algorithm}"\nname = "up"\nexclude_nodes = ["down"]\n'
    )
    reference = found.pop("fp32")
    assert [attributes["bits"] for _, attributes in blocks(found.pop("up"))] == [4]
    for variant in found.values():
        expected = [(f"{name}_Q{variant.recipe.bits}", variant.recipe.bits, 32, 4) for name in ("up", "down_MatMul")]
        assert [(name, each["bits"], each["block_size"], each["accuracy_level"]) for name, each in blocks(variant)] == expected
        assert sqnr(variant, reference) > (10 if variant.recipe.bits == 4 else 30)
        assert variant.notes == ()


def test_gptq_looks_at_the_data(make: Make, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=feed()["x"] * (np.arange(K, dtype=np.float32) % 3 == 0))
    spec = '[[variant]]\nmethod = "nbits"\nformat = "QOperator"\nalgorithm = "GPTQ"\n'
    found = make(spec + spec + 'calibration_data = "d.npz"\n' + spec.replace("GPTQ", "RTN") + 'calibration_data = "d.npz"\n')
    hashes = {name: variant.sha256 for name, variant in found.items()}
    assert hashes["nbits-4b32-QOperator-GPTQ"] != hashes["nbits-4b32-QOperator-GPTQ-by-d"]
    # RTN does not, and its recipe does not say so.
    assert found["nbits-4b32-QOperator-RTN"].recipe.calibration_data is None


def test_qdq_raises_the_opset(make: Make) -> None:
    found = make('[variants]\nmethods = ["nbits"]\nformats = ["QDQ"]\nblock_sizes = [20, 64]\n')
    for name in ("nbits-4b20", "nbits-4b64"):
        assert found[name].notes == ("opset 17 was raised to 21",)
        model = onnx.load(found[name].path or "")
        assert (model.ir_version, model.opset_import[0].version) == (10, 21)
        unpacked = [node for node in model.graph.node if node.op_type == "DequantizeLinear"]
        assert [helper.get_node_attr_value(node, "block_size") for node in unpacked] == [int(name[-2:])] * 2
        assert sqnr(found[name], found["fp32"]) > 12


def test_symmetry(make: Make) -> None:
    spec = '[[variant]]\nmethod = "nbits"\nformat = "QOperator"\n'
    found = make(f'{spec}{spec}symmetric = false\n{spec}algorithm = "k_quant"\n{spec}algorithm = "k_quant"\nsymmetric = false\n')
    inputs = {
        name: len(next(node for node in onnx.load(variant.path or "").graph.node if node.op_type == "MatMulNBits").input)
        for name, variant in found.items()
        if variant.recipe.method == "nbits"
    }
    # k_quant has zero points whatever it is told: its two recipes are one.
    assert inputs == {"nbits-4b32-QOperator": 3, "nbits-4b32-QOperator-asym": 4, "nbits-4b32-QOperator-k_quant": 4}
    assert found["nbits-4b32-QOperator-k_quant"].recipe.symmetric is None


def test_nodes(make: Make) -> None:
    spec = '[[variant]]\nmethod = "nbits"\nformat = "QOperator"\nname = '
    found = make(
        f'{spec}"only"\nnodes = ["do*"]\n{spec}"but"\nexclude_nodes = ["down"]\n{spec}"none"\nexclude_nodes = ["*"]\n{spec}"typo"\nnodes = ["dawn"]\n'
    )
    assert [name for name, _ in blocks(found["only"])] == ["down_MatMul_Q4"]
    assert [name for name, _ in blocks(found["but"])] == ["up_Q4"]
    assert "no MatMul or Gemm whose weights could be quantized that nodes and exclude_nodes leave" in (found["none"].reason or "")
    assert found["typo"].reason == "nodes: 'dawn' matches no node of the model, nor of the prepared one; did you mean 'down'?"


def test_a_reader_that_is_copied_begins_anew() -> None:
    reader = CopiedReader([{"x": np.zeros(1)}])
    assert reader.get_next() is not None
    assert reader.get_next() is None
    assert copy.deepcopy(reader).get_next() is not None


def test_the_users_log_is_left_alone() -> None:
    code = "import logging, harness.quantize.methods.nbits; print(logging.getLogger().handlers, logging.getLogger().level)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "30"]


def test_a_weight_that_two_gemms_transpose(tmp_path: Path) -> None:
    """onnxruntime turns it once for each of them, in place."""
    weights = {"w": np.random.default_rng(7).standard_normal((32, 32)).astype(np.float32)}
    layers = [
        helper.make_node("Gemm", ["x", "w"], ["m"], "one", transB=1),
        helper.make_node("Gemm", ["m", "w"], ["y"], "two", transB=1),
    ]
    onnx.save(make_model(layers, {"x": [2, 32]}, {"y": [2, 32]}, weights), tmp_path / "m.onnx")
    text = 'name = "t"\n[model]\npath = "m.onnx"\n[variants]\nmethods = ["nbits"]\nformats = ["QOperator"]\nbits = [8]\n'
    (tmp_path / "study.toml").write_text(text, encoding="utf-8")
    reference, variant = build(studies.load(tmp_path), tmp_path / "out")
    x = {"x": np.random.default_rng(8).standard_normal((2, 32)).astype(np.float32)}
    outputs = [np.asarray(onnxruntime.InferenceSession(each.path).run(None, x)[0]) for each in (reference, variant) if each.path]
    assert np.linalg.norm(outputs[0] - outputs[1]) < 0.05 * np.linalg.norm(outputs[0])


def test_matrices_in_bodies_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    branches = {}
    for branch in ("then_branch", "else_branch"):
        weight = numpy_helper.from_array(rng.standard_normal((64, N)).astype(np.float32), f"w_{branch}")
        result = helper.make_tensor_value_info(branch, TensorProto.FLOAT, ["b", N])
        matmul = helper.make_node("MatMul", ["x", weight.name], [branch], f"in_{branch}")
        branches[branch] = helper.make_graph([matmul], branch, [], [result], [weight])
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0),
        helper.make_node("Greater", ["mean", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], "choice", **branches),
    ]
    model = make_model(nodes, {"x": ["b", 64]}, {"y": ["b", N]}, {"zero": np.array(0, np.float32)})
    onnx.save(model, tmp_path / "m.onnx")
    text = 'name = "t"\n[model]\npath = "m.onnx"\ndims = { b = 4 }\n[variants]\nmethods = ["nbits"]\nformats = ["QDQ", "QOperator"]\n'
    (tmp_path / "study.toml").write_text(text, encoding="utf-8")
    study = studies.load(tmp_path)
    assert {each.name: each.state for each in plan_build(study, plan(study), read_model(study.model.path)).variants} == {
        "fp32": "made",
        "nbits-4b32": "made",
        "nbits-4b32-QOperator": "made",
    }
    made = {variant.name: variant for variant in build(study, tmp_path / "out")}
    assert {name: (each.state, each.reason) for name, each in made.items()} == dict.fromkeys(made, ("made", None))
    path = made["nbits-4b32-QOperator"].path
    assert path is not None
    quantized = onnx.load(path)
    assert [node.op_type for node in quantized.graph.node[-1].attribute[0].g.node] == ["MatMulNBits"]
