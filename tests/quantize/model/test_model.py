from __future__ import annotations

import contextlib
import errno
import os
import random
import struct
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from harness.errors import ModelError
from harness.quantize.data.dims import input_shapes, open_dims, resolve_dims
from harness.quantize.model import model as models
from harness.quantize.model import storage
from harness.quantize.model.model import open_model, read_model
from tests.models import make_model, tiny_cnn, tiny_mlp

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        open_model(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def save(model: ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


def relu(**inputs: list[int | str | None]) -> ModelProto:
    nodes = [helper.make_node("Relu", [name], [f"out_{name}"]) for name in inputs]
    return make_model(nodes, {**inputs}, {f"out_{name}": [None] * len(shape) for name, shape in inputs.items()})


def test_describes_a_model(cnn: Path) -> None:
    model = open_model(cnn)
    assert [str(spec) for spec in model.inputs] == ["x float32 [batch, 1, 8, 8]"]
    assert [str(spec) for spec in model.outputs] == ["y float32 [batch, 3]"]
    assert (model.opset, model.ir_version, model.size) == (17, 8, cnn.stat().st_size)
    assert len(model.sha256) == 64


def test_an_initializer_among_the_inputs_is_no_input(cnn: Path) -> None:
    proto = onnx.load(cnn)
    proto.graph.input.append(helper.make_tensor_value_info("w1", TensorProto.FLOAT, [4, 1, 3, 3]))
    assert [spec.name for spec in open_model(save(proto, cnn)).inputs] == ["x"]


def test_dimensions_without_a_usable_name_are_called_by_position(tmp_path: Path) -> None:
    proto = relu(x=["n", 3, "?", "?", None, "2*n", 7, "-1"])
    proto.graph.input[0].type.tensor_type.shape.dim[6].dim_value = -1
    model = open_model(save(proto, tmp_path / "m.onnx"))
    assert model.inputs[0].shape == ("n", 3, "x.2", "x.3", "x.4", "x.5", "x.6", "x.7")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file"),
        (b"\xff\xd8\xff\xe0 JFIF", "a JPEG image"),
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (b"hello, this is a text file\n", "text"),
        (b"PK\x03\x04 torch", "a zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (b"\x18\x00\x00\x00ORTM\x00\x00", ".ort format"),
        (struct.pack("<Q", 20) + b'{"a":{"dtype":"F32"}}', "safetensors"),
    ],
)
def test_says_what_a_file_is_that_is_no_model(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    message = refusal(path)
    assert message.startswith("not an ONNX model but ")
    assert said in message


def test_missing_and_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.onnx") == "no such file"
    assert refusal(tmp_path) == "is a folder; give the .onnx file in it"


def test_unreadable(cnn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(type(cnn), "read_bytes", refuse)
    assert "can't be read: Permission denied" in refusal(cnn)


def test_every_truncation_is_one_message(cnn: Path) -> None:
    whole = cnn.read_bytes()
    for length in range(1, len(whole), 13):
        cnn.write_bytes(whole[:length])
        assert "not an ONNX model" in (message := refusal(cnn)) or "truncated or damaged" in message
    cnn.write_bytes(whole[: len(whole) // 2])
    assert "truncated or damaged" in refusal(cnn)


@given(st.binary(max_size=200) | st.integers(0, 2**32).map(lambda seed: random.Random(seed).randbytes(2000)))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bytes_are_one_message(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "random.onnx"
    path.write_bytes(content)
    refusal(path)


@given(st.integers(0, 2**32), st.integers(1, 8))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_model_opens_or_is_one_error(tmp_path: Path, seed: int, flips: int) -> None:
    path = tiny_cnn(tmp_path / "damaged.onnx")
    content = bytearray(path.read_bytes())
    rng = random.Random(seed)
    for _ in range(flips):
        # The weights may hold anything: aim at the structure, at either end.
        place = rng.randrange(120) if rng.random() < 0.5 else rng.randrange(len(content) - 400, len(content))
        content[place] = rng.randrange(256)
    path.write_bytes(bytes(content))
    with contextlib.suppress(ModelError):
        open_model(path)


def test_unknown_element_type(cnn: Path) -> None:
    proto = onnx.load(cnn)
    proto.graph.output[0].type.tensor_type.elem_type = 99
    assert refusal(save(proto, cnn)) == f"'y' is of element type 99, which onnx {onnx.__version__} does not know"


def test_bytes_that_parse_but_hold_no_graph(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx.ModelProto(ir_version=8, producer_name="\x01x").SerializeToString())
    assert refusal(path) == "not an ONNX model: it holds no graph"


def test_a_graph_without_nodes(tmp_path: Path) -> None:
    assert "no nodes" in refusal(save(make_model([], {"x": [1]}, {"x": [1]}), tmp_path / "m.onnx"))


def test_a_model_without_outputs(cnn: Path) -> None:
    model = onnx.load(cnn)
    del model.graph.output[:]
    assert refusal(save(model, cnn)).startswith("the model has no outputs")


def test_an_invalid_graph(tmp_path: Path) -> None:
    proto = make_model([helper.make_node("Relu", ["nowhere"], ["y"])], {"x": [1]}, {"y": [1]})
    assert refusal(save(proto, tmp_path / "m.onnx")).startswith("not a valid ONNX model")


def test_quantized_already(tmp_path: Path, cnn: Path) -> None:
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], "first"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], "second"),
    ]
    path = save(make_model(nodes, {"x": [4]}, {"y": [4]}), tmp_path / "q.onnx")
    message = refusal(path)
    assert "2 nodes: first (DynamicQuantizeLinear), second (DequantizeLinear); give the float model" in message
    assert read_model(path).opset == 17
    open_model(cnn)


def test_quantized_inside_a_branch(tmp_path: Path) -> None:
    def branch(name: str) -> onnx.GraphProto:
        inner = [
            helper.make_node("DynamicQuantizeLinear", ["x"], [f"q{name}", f"s{name}", f"z{name}"], f"hidden_{name}"),
            helper.make_node("DequantizeLinear", [f"q{name}", f"s{name}", f"z{name}"], [f"y{name}"]),
        ]
        return helper.make_graph(inner, name, [], [helper.make_tensor_value_info(f"y{name}", TensorProto.FLOAT, [4])])

    choice = helper.make_node("If", ["c"], ["y"], then_branch=branch("a"), else_branch=branch("b"))
    proto = make_model([choice], {"x": [4]}, {"y": [4]})
    proto.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    message = refusal(save(proto, tmp_path / "m.onnx"))
    assert "4 nodes: hidden_" in message


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, [1]), "not tensors: 's'"),
        (helper.make_tensor_value_info("s", TensorProto.STRING, [1]), "tensors of text: 's'"),
        (helper.make_tensor_value_info("s", TensorProto.FLOAT, None), "of unknown rank: 's'"),
    ],
)
def test_inputs_that_cant_be_fed(tmp_path: Path, value: onnx.ValueInfoProto, said: str) -> None:
    proto = relu(x=[1])
    proto.graph.input.append(value)
    assert said in refusal(save(proto, tmp_path / "m.onnx"))


def test_too_large(cnn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "LIMIT", cnn.stat().st_size)
    assert "export it with external data" in refusal(cnn)


class TestExternalData:
    @pytest.fixture
    def model(self, tmp_path: Path) -> Path:
        folder = tmp_path / "model"
        folder.mkdir()
        path = tiny_cnn(folder / "m.onnx")
        onnx.save(onnx.load(path), path, save_as_external_data=True, location="m.data", size_threshold=0)
        return path

    def relocate(self, path: Path, location: str) -> None:
        proto = onnx.load(path, load_external_data=False)
        for tensor in proto.graph.initializer:
            tensor.external_data[0].value = location
        path.write_bytes(proto.SerializeToString())

    def test_is_read(self, model: Path) -> None:
        opened = open_model(model)
        assert opened.external_data == ("m.data",)
        assert opened.size == model.stat().st_size + (model.parent / "m.data").stat().st_size
        assert not any(tensor.external_data for tensor in opened.proto.graph.initializer)

    def test_does_not_count_for_the_limit(self, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(models, "LIMIT", model.stat().st_size + 1)
        assert open_model(model).size > models.LIMIT

    def test_counts_for_the_hash(self, model: Path) -> None:
        before = open_model(model).sha256
        data = bytearray((model.parent / "m.data").read_bytes())
        data[10] ^= 1
        (model.parent / "m.data").write_bytes(data)
        assert open_model(model).sha256 != before

    def test_a_large_models_tensors_stay_there(self, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = open_model(model)
        monkeypatch.setattr(storage, "LARGE", 1)
        monkeypatch.setattr(storage, "LEAST_TENSOR", 1)
        large = open_model(model)
        assert large.is_large
        assert not any(tensor.raw_data for tensor in large.proto.graph.initializer)
        copied = large.content().graph
        assert (copied.node, copied.initializer) == (whole.proto.graph.node, whole.proto.graph.initializer)
        assert {value.name for value in copied.value_info} == {"c1", "r1", "c2", "a", "p", "f"}, "its shapes are inferred"
        assert (large.sha256, large.size, large.inputs) == (whole.sha256, whole.size, whole.inputs)

    @pytest.mark.parametrize("size", [1, 10**15])
    @pytest.mark.parametrize(
        ("key", "value"),
        [("offset", "-1"), ("length", "-1"), ("offset", "1e3"), ("offset", str(10**12)), ("length", str(10**12))],
    )
    def test_places_that_are_none(self, model: Path, monkeypatch: pytest.MonkeyPatch, size: int, key: str, value: str) -> None:
        monkeypatch.setattr(storage, "LARGE", size)
        proto = onnx.load(model, load_external_data=False)
        for entry in proto.graph.initializer[0].external_data:
            if entry.key == key:
                entry.value = value
        model.write_bytes(proto.SerializeToString())
        assert "external data" in refusal(model)

    @pytest.mark.parametrize(
        ("location", "said"),
        [("/etc/passwd", "absolute"), ("C:\\x", "absolute"), ("../secret", "'..'"), ("a/../../secret", "'..'"), ("", "empty")],
    )
    def test_bad_paths(self, model: Path, location: str, said: str) -> None:
        (model.parent.parent / "secret").write_bytes(b"\0" * 4096)
        self.relocate(model, location)
        message = refusal(model)
        assert f"'{location}'" in message
        assert said in message

    def test_missing(self, model: Path) -> None:
        (model.parent / "m.data").unlink()
        assert "'m.data' is missing; copy it beside the model" in refusal(model)

    def test_too_short(self, model: Path) -> None:
        (model.parent / "m.data").write_bytes(b"\0")
        assert "'m.data' is truncated: 1 bytes" in refusal(model)

    def test_not_a_file(self, model: Path) -> None:
        (model.parent / "m.data").unlink()
        (model.parent / "m.data").mkdir()
        assert "not a regular file" in refusal(model)

    def test_symbolic_link(self, model: Path, tmp_path: Path) -> None:
        data = model.parent / "m.data"
        data.rename(tmp_path / "elsewhere")
        data.symlink_to(tmp_path / "elsewhere")
        assert "symbolic link" in refusal(model)

    def test_linked_folder(self, model: Path, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        (model.parent / "m.data").rename(tmp_path / "elsewhere" / "m.data")
        (model.parent / "sub").symlink_to(tmp_path / "elsewhere")
        self.relocate(model, "sub/m.data")
        assert "outside of the model's folder" in refusal(model)

    def test_hard_link(self, model: Path) -> None:
        os.link(model.parent / "m.data", model.parent / "other")
        assert "has more than one hard link; copy it" in refusal(model)


class TestDims:
    def test_cross_product(self, cnn: Path) -> None:
        model = open_model(cnn)
        assert resolve_dims(model, {"batch": [1, 8]}) == ({"batch": 1}, {"batch": 8})
        assert input_shapes(model, {"batch": 8}) == {"x": (8, 1, 8, 8)}

    def test_position_wins_over_name(self, tmp_path: Path) -> None:
        model = open_model(save(relu(a=["n", 2], b=["n", "m"]), tmp_path / "m.onnx"))
        assert input_shapes(model, {"n": 1, "m": 5, "b.0": 3}) == {"a": (1, 2), "b": (3, 5)}
        assert open_dims(model) == ("n", "m")
        assert len(resolve_dims(model, {"n": [1, 2], "m": [1, 2, 3]})) == 6

    def test_position_alone_suffices(self, cnn: Path) -> None:
        assert input_shapes(open_model(cnn), {"x.0": 2}) == {"x": (2, 1, 8, 8)}

    def test_missing_ones_are_all_listed(self, tmp_path: Path) -> None:
        model = open_model(save(relu(a=["n", 2], b=["n", None]), tmp_path / "m.onnx"))
        with pytest.raises(ModelError) as caught:
            resolve_dims(model, {})
        message = str(caught.value)
        assert "'n' (input a float32 [n, 2]), 'b.1' (input b float32 [n, b.1])" in message
        assert "--dim n=1 --dim b.1=1" in message
        assert 'dims = { n = 1, "b.1" = 1 }' in message

    def test_unknown_name(self, cnn: Path) -> None:
        with pytest.raises(ModelError, match=r"no input has an open dimension 'bacth'; did you mean 'batch'\?"):
            resolve_dims(open_model(cnn), {"bacth": [1]})

    def test_fixed_shapes(self, tmp_path: Path) -> None:
        model = open_model(tiny_mlp(tmp_path / "m.onnx", batch=4))
        assert resolve_dims(model, {}) == ({},)
        with pytest.raises(ModelError, match=r"its shapes are fixed: x float32 \[4, 16\]"):
            resolve_dims(model, {"x.0": [1]})
        assert input_shapes(model, {}) == {"x": (4, 16)}


def test_dtype_names(tmp_path: Path) -> None:
    proto = relu(x=[1])
    proto.graph.input.append(helper.make_tensor_value_info("i", TensorProto.INT64, []))
    model = open_model(save(proto, tmp_path / "m.onnx"))
    assert model.inputs[1].dtype == np.dtype(np.int64).name
    assert model.inputs[1].shape == ()
