"""Cutting model files at their tensors."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from harness.devices import pieces


def model(path: Path, *weights: np.ndarray, constant: np.ndarray | None = None) -> Path:
    """A file with these initializers, and a Constant node."""
    tensors = [numpy_helper.from_array(weight, f"w{number}") for number, weight in enumerate(weights)]
    nodes = [] if constant is None else [helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(constant, "k"))]
    graph = helper.make_graph(
        [*nodes, helper.make_node("Identity", ["x"], ["y"])], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])], tensors,
    )  # fmt: skip
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def weight(seed: int, size: int = 5000) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def cut(path: Path) -> tuple[pieces.Piece, ...]:
    return pieces.cut(path, digest(path.read_bytes()))


def test_every_large_tensor_is_a_piece_and_all_make_up_the_file(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx", weight(1), weight(2), weight(3, 10), constant=weight(4))
    found = cut(path)
    data = path.read_bytes()
    assert b"".join(data[piece.offset : piece.offset + piece.size] for piece in found) == data
    assert [digest(data[piece.offset : piece.offset + piece.size]) for piece in found] == [piece.sha256 for piece in found]
    assert {digest(weight(number).tobytes()) for number in (1, 2, 4)} <= {piece.sha256 for piece in found}
    assert digest(weight(3, 10).tobytes()) not in {piece.sha256 for piece in found}, "a small one is not worth it"


def test_variants_share_their_tensors(tmp_path: Path) -> None:
    one = cut(model(tmp_path / "one.onnx", weight(1), weight(2)))
    two = cut(model(tmp_path / "two.onnx", weight(0), weight(1), weight(2)))
    shared = {piece.sha256 for piece in one} & {piece.sha256 for piece in two}
    assert shared >= {digest(weight(number).tobytes()) for number in (1, 2)}


@pytest.mark.parametrize("content", [b"", b"x" * 100_000, bytes(100_000), b"\x3a\xff\xff\xff\xff\x0f" + b"y" * 50_000])
def test_what_is_no_model_is_one_piece(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    assert cut(path) == (pieces.Piece(digest(content), 0, len(content)),)


def test_other_files_are_one_piece(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx", weight(1)).rename(tmp_path / "m.npz")
    assert len(cut(path)) == 1


@given(data=st.binary(max_size=20), at=st.integers(0, 400))
def test_no_damage_stops_the_cutting(tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int) -> None:
    path = model(tmp_path_factory.mktemp("cut") / "m.onnx", weight(1))
    content = bytearray(path.read_bytes())
    content[at : at + len(data)] = data
    path.write_bytes(content)
    found = cut(path)
    assert sum(piece.size for piece in found) == len(content)
    assert [piece.offset for piece in found][1:] == [piece.offset + piece.size for piece in found][:-1]


def test_a_real_model_survives(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx", weight(1), weight(2))
    found = cut(path)
    (tmp_path / "again.onnx").write_bytes(
        b"".join(path.read_bytes()[piece.offset : piece.offset + piece.size] for piece in found)
    )
    onnx.checker.check_model(str(tmp_path / "again.onnx"))


def outside(path: Path, *weights: np.ndarray) -> tuple[Path, str]:
    """A model whose tensors lie in a file beside it, which it names by its hash."""
    proto = onnx.load(model(path, *weights))
    path.unlink()
    onnx.save(proto, path, save_as_external_data=True, location="data", size_threshold=0)
    name = digest((path.parent / "data").read_bytes())
    (path.parent / "data").rename(path.parent / name)
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        tensor.external_data[0].value = name
    path.write_bytes(proto.SerializeToString())
    return path.parent / name, name


def test_tensors_beside_a_model_are_cut_where_it_says(tmp_path: Path) -> None:
    data, name = outside(tmp_path / "a.onnx", weight(1), weight(2), weight(3))
    starts = pieces.outside([tmp_path / "a.onnx"])
    assert list(starts) == [name]
    found = pieces.cut(data, name, starts[name])
    assert [piece.size for piece in found] == [20_000] * 3
    assert [piece.sha256 for piece in found] == [digest(weight(number).tobytes()) for number in (1, 2, 3)]
    other, other_name = outside(tmp_path / "b.onnx", weight(4), weight(3), weight(2))
    cut_again = pieces.cut(other, other_name, pieces.outside([tmp_path / "b.onnx"])[other_name])
    assert len({piece.sha256 for piece in found} & {piece.sha256 for piece in cut_again}) == 2
    # Without the model's word it is one piece, and places outside of it are none.
    assert pieces.cut(data, name) == (pieces.Piece(name, 0, 60_000),)
    assert sum(piece.size for piece in pieces.cut(data, name, [-5, 10**9, 7])) == 60_000


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\x3a\xff\xff\xff\xff\x0f", b"\x3a\x06\x2a\x04\x6a\x02\x0a\x09"])
def test_what_is_no_model_has_nothing_outside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    assert pieces.outside([path]) == {}
