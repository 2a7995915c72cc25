from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from harness.errors import DataError
from harness.quantize.data import load as data
from harness.quantize.model.model import open_model
from harness.study.datasets import DataTable
from tests.models import make_model

if TYPE_CHECKING:
    from harness.quantize.data.load import Samples
    from harness.quantize.model.model import SourceModel


@pytest.fixture
def tokens(tmp_path: Path) -> SourceModel:
    """A model of x float32 [batch, 4], ids int64 [batch, 50] and flags uint8 [2]."""
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    proto = make_model(nodes, {"x": ["batch", 4]}, {"y": ["batch", 4]})
    proto.graph.input.append(helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", 50]))
    proto.graph.input.append(helper.make_tensor_value_info("flags", TensorProto.UINT8, [2]))
    path = tmp_path / "tokens.onnx"
    onnx.save(proto, path)
    return open_model(path)


def load(source: str | DataTable, model: SourceModel) -> Samples:
    return data.load(source, model, {"batch": 2}, what="calibration")


def values(samples: Samples, name: str) -> np.ndarray:
    return np.concatenate([feed[name].ravel() for feed in samples.feeds])


def test_each_input_has_a_distribution(tokens: SourceModel) -> None:
    samples = load("random: x = uniform(-2, -1); ids = integers(0, 30); flags = constant(7); samples = 40; seed = 1", tokens)
    assert len(samples.feeds) == 40
    assert samples.random
    x, ids = values(samples, "x"), values(samples, "ids")
    assert x.dtype == np.float32
    assert x.min() >= -2
    assert x.max() < -1
    assert set(ids) == set(range(30))
    assert ids.dtype == np.int64
    assert set(values(samples, "flags")) == {7}


def test_a_table_says_the_same(tokens: SourceModel) -> None:
    short = load("random:x=normal(3, 0.5);samples=2;seed=9", tokens)
    long = load(DataTable(random={"x": "normal(3, 0.5)"}, samples=2, seed=9), tokens)
    assert short.digest == long.digest
    assert 2 < values(short, "x").mean() < 4


def test_inputs_that_are_not_named_are_as_without_a_distribution(tokens: SourceModel) -> None:
    samples = load("random:flags=ones", tokens)
    assert set(values(samples, "ids")) == {0, 1}
    assert values(samples, "x").std() == pytest.approx(1, abs=0.3)


def test_seed_and_passes(tokens: SourceModel) -> None:
    samples = load("random:seed=3", tokens)
    first = [feed["x"] for feed in samples.feeds]
    np.testing.assert_array_equal(first, [feed["x"] for feed in samples.feeds])
    assert samples.digest == load("random:seed=3", tokens).digest
    assert samples.digest != load("random:seed=4", tokens).digest
    assert load("random:seed=0", tokens).digest == load("random", tokens).digest


@pytest.mark.parametrize(("law", "value"), [("zeros", 0), ("ones", 1), ("constant(3)", 3)])
def test_one_for_all_inputs(tokens: SourceModel, law: str, value: int) -> None:
    samples = load(f"random:{law}", tokens)
    assert {float(each) for name in ("x", "ids", "flags") for each in values(samples, name)} == {value}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("random:unifrom(0,1)", "'unifrom(0,1)' is not a distribution; did you mean 'uniform'?"),
        ("random:normal(0,1", "'normal(0,1' is not a distribution; did you mean 'normal'?"),
        ("random:x=gamma(1)", "not a distribution; known: uniform, normal, integers, constant, zeros, ones"),
        ("random:x=normal(1)", "normal takes 2 numbers, not 1"),
        ("random:x=uniform(1, 0)", "the second number must be above the first"),
        ("random:x=normal(0, 0)", "the standard deviation must be above 0"),
        ("random:ids=integers(0, 1.5)", "integers takes whole numbers"),
        ("random:ids=uniform(0, 1)", "input 'ids' is int64, and uniform gives fractions; say integers(low, high)"),
        ("random:flags=integers(0, 300)", "reaches beyond what uint8 of input 'flags' can hold"),
        ("random:flags=constant(-1)", "reaches beyond what uint8 of input 'flags' can hold"),
        ("random:idz=zeros", "the model has no input 'idz'; did you mean 'ids'?"),
        ("random:zeros;x=ones", "'zeros' is for all inputs and x for one; say either"),
        ("random:samples=0", "samples must be at least 1"),
    ],
)
def test_refusals(tokens: SourceModel, text: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        load(text, tokens)
    assert said in str(caught.value)
    assert str(caught.value).startswith(text)


def test_an_input_of_no_common_type(tmp_path: Path) -> None:
    proto = make_model([helper.make_node("Identity", ["x"], ["y"])], {"x": [1]}, {"y": [1]})
    for value in (proto.graph.input[0], proto.graph.output[0]):
        value.type.tensor_type.elem_type = TensorProto.BFLOAT16
    onnx.save(proto, tmp_path / "b.onnx")
    with pytest.raises(DataError, match="input 'x' is bfloat16, for which no random data can be made; give calibration data"):
        data.load("random", open_model(tmp_path / "b.onnx"), {}, what="calibration")
