"""A variant that fails or computes something else at onnxruntime's default optimization level is told of."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from harness.quantize.build import build
from harness.quantize.cache import Cache
from harness.quantize.model.model import open_model
from harness.quantize.recipe import Recipe
from harness.quantize.verify import trial_run
from harness.quantize.verify.original import Original
from harness.quantize.verify.sample import Sample
from harness.quantize.verify.trial_run import Failure, run
from harness.quantize.worker_pool import WorkerPool
from harness.study.study import load
from tests.models import make_model

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto, NodeProto

    from harness.quantize.recipe import Variant

RNG = np.random.default_rng(7)  # another seed than that of random samples
X = RNG.normal(size=(1, 3, 12, 12)).astype(np.float32)


def floats(values: list[float]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array(values, np.float32)


def between_convolutions(node: NodeProto, constants: dict[str, Any]) -> ModelProto:
    """Conv, a node from 'a' to 'q', Conv; the output's size is open."""
    weights = {"w0": RNG.normal(size=(6, 3, 3, 3)) / 5, "w1": RNG.normal(size=(4, 6, 3, 3)) / 7}
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w0"], ["a"], "c0"), node, helper.make_node("Conv", ["q", "w1"], ["y"], "c1")],
        "g",
        [helper.make_tensor_value_info("x", 1, X.shape)],
        [helper.make_tensor_value_info("y", 1, ["n", "c", "h", "w"])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
        + [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


PAD = between_convolutions(
    helper.make_node("Pad", ["a", "pads", "", "axes"], ["q"], "pad"), {"pads": [1, 1, 1, 1], "axes": [2, 3]}
)
RESIZE = between_convolutions(
    helper.make_node("Resize", ["a", "", "scales"], ["q"], "resize", axes=[0, 1, 3, 2], mode="nearest"),
    {"scales": floats([1, 1, 2, 1])},
)
PAD_IN_ANOTHER_ORDER = between_convolutions(
    helper.make_node("Pad", ["a", "pads", "", "axes"], ["q"], "pad"),
    {"pads": [0, 0, 2, 0, 0, 0, 0, 2], "axes": [0, 1, 3, 2]},
)
SKIPPED = 'methods = ["static"]\nformats = ["QDQ"]\nactivations = ["QUInt8"]\nweights = ["QInt8"]\nskip_steps = ["expand-axes"]'


def built(model: ModelProto, folder: Path, form: str = "QDQ", **more: Any) -> tuple[Variant, ...]:
    folder.mkdir(exist_ok=True)
    onnx.save(model, folder / "m.onnx")
    np.savez(folder / "d.npz", x=np.repeat(X, 4, 0))
    (folder / "study.toml").write_text(
        f'name = "s"\n[model]\npath = "m.onnx"\ncalibration = "d.npz"\nevaluation = "d.npz"\n[variants]\n{SKIPPED.replace("QDQ", form)}\n'
    )
    return build(load(folder / "study.toml"), folder / "out", **more)


def test_a_file_that_fails_in_every_inference(tmp_path: Path) -> None:
    *_, variant = built(PAD, tmp_path)
    assert variant.state == "made"
    (note,) = filter(trial_run.is_told, variant.notes)
    assert (
        "on this machine loads it, but fails when it runs: a Gather that onnxruntime has inserted: InvalidArgument: indices"
        in note
    )
    assert "with optimization disabled it runs: leave the nodes around it in float with exclude_nodes" in note
    assert str(tmp_path) not in note


def test_the_node_at_which_an_inference_fails_stays_in_float(tmp_path: Path) -> None:
    *_, variant = built(PAD_IN_ANOTHER_ORDER, tmp_path, "QOperator")
    (note,) = [note for note in variant.notes if "fails when it runs" in note]
    assert note.startswith("'c1' (Conv) stays in float, because what quantize_static makes of it fails when it runs (Fail: ")
    assert not any(map(trial_run.is_told, variant.notes))
    assert variant.path is not None
    assert "Conv" in {node.op_type for node in onnx.load(variant.path).graph.node}


def test_a_file_that_the_optimizer_changes(tmp_path: Path) -> None:
    *_, variant = built(RESIZE, tmp_path)
    (note,) = filter(trial_run.is_told, variant.notes)
    assert note.startswith("on one sample, output 'y' has the shape [1, 4, 18, 8] instead of [1, 4, 8, 18], but ")
    assert "dB with optimization disabled" in note
    assert "changes what the file computes when it optimizes it" in note


@pytest.mark.parametrize("model", [PAD, RESIZE])
def test_another_process_tells_the_same(model: ModelProto, tmp_path: Path) -> None:
    here = built(model, tmp_path / "here")
    with WorkerPool(1) as children:
        there = built(model, tmp_path / "there", executor=children)
    assert [each.notes for each in here] == [each.notes for each in there]


def test_notes_of_another_sample_are_not_taken_from_the_cache(tmp_path: Path) -> None:
    *_, variant = built(RESIZE, tmp_path)
    source = open_model(tmp_path / "m.onnx")
    recipe = Recipe(name="v", method="dynamic", weight="QInt8")
    kept = variant.model_copy(update={"recipe": recipe})
    first = Cache(tmp_path / "cache", source, {}, original=Original(source, data=str(tmp_path / "d.npz")))
    first.keep(kept)
    found = first.find(recipe, tmp_path / "again.onnx")
    assert found is not None
    assert found.notes == kept.notes
    random = Cache(tmp_path / "cache", source, {}, original=Original(source))
    assert random.find(recipe, tmp_path / "again.onnx") is None
    fine = kept.model_copy(update={"notes": ()})
    first.keep(fine)
    assert random.find(recipe, tmp_path / "again.onnx") is not None


def variant_of(kinds: str, folder: Path, x: np.ndarray[Any, Any]) -> tuple[Path, Sample]:
    """A file that computes something else than the Identity of which the sample is."""
    nodes = {
        "noise": [helper.make_node("Mul", ["x", "half"], ["y"], "m")],
        "log": [helper.make_node("Log", ["x"], ["y"], "log")],
        "dead": [helper.make_node("Mul", ["x", "zero"], ["y"], "m")],
        "good": [helper.make_node("Identity", ["x"], ["y"], "i")],
        "shape": [helper.make_node("Concat", ["x", "x"], ["y"], "c", axis=0)],
    }[kinds]
    model = make_model(nodes, {"x": list(x.shape)}, {"y": [len(x) * (2 if kinds == "shape" else 1)]})
    model.graph.initializer.extend(
        [numpy_helper.from_array(np.array(0.5, np.float32), "half"), numpy_helper.from_array(np.array(0, np.float32), "zero")]
    )
    onnx.save(model, folder / "v.onnx")
    return folder / "v.onnx", Sample({"x": x}, {"y": x}, 0.01)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("noise", "on one sample, output 'y' has an SQNR of 6.0 dB against fp32; `harness debug` shows where it is lost"),
        (
            "log",
            "on one sample, output 'y' has 2 values of 4 that are not finite beyond those of fp32 (none); `harness debug` shows",
        ),
        ("dead", "on one sample, output 'y' is constant, but varies in fp32; `harness debug` shows where it is lost"),
        ("shape", "on one sample, output 'y' has the shape [8] instead of [4]"),
        ("good", ""),
    ],
)
def test_outputs(kind: str, said: str, tmp_path: Path) -> None:
    found = run(*variant_of(kind, tmp_path, floats([1, 2, -3, -4])))
    assert len(found) == bool(said)
    assert "".join(found).startswith(said)


def test_what_is_not_finite_in_fp32_either_is_no_loss(tmp_path: Path) -> None:
    path, sample = variant_of("good", tmp_path, floats([1, np.nan, -np.inf, 4]))
    assert run(path, sample) == ()


def test_the_number_of_results_is_open(tmp_path: Path) -> None:
    """How many values are not zero may change by quantization."""
    model = make_model([helper.make_node("NonZero", ["x"], ["y"], "n")], {"x": [4]}, {"y": [1, "found"]})
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    onnx.save(model, tmp_path / "v.onnx")
    assert run(tmp_path / "v.onnx", Sample({"x": floats([1, 0, 0, 1])}, {"y": np.zeros((1, 3), np.int64)}, 0.01)) == ()


def test_a_slow_model_is_only_loaded(tmp_path: Path) -> None:
    path, sample = variant_of("noise", tmp_path, floats([1, 2, 3, 4]))
    assert run(path, replace(sample, seconds=2.5)) == (
        "what it computes was not checked: one inference of the model takes more than 2 s",
    )
    proto = onnx.load(path)
    proto.graph.node[0].op_type = "Nothing"
    onnx.save(proto, path)
    with pytest.raises(Failure) as caught:
        run(path, replace(sample, seconds=2.5))
    assert "on this machine does not load it: " in caught.value.note


def test_a_sample_is_stored(tmp_path: Path) -> None:
    sample = Sample({"a/b": X, "words": np.array([["one"]])}, {"y": X, "file": np.arange(3)}, 0.25)
    again = Sample.load(sample.file(tmp_path))
    assert again.seconds == sample.seconds
    for one, other in ((sample.feed, again.feed), (sample.outputs, again.outputs)):
        assert list(one) == list(other)
        assert all(np.array_equal(one[name], other[name]) for name in one)
