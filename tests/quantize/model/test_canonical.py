from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.quantize.model.canonical import canonical_hash
from tests.quantize import one_op


@pytest.fixture
def changed(cnn: Path) -> onnx.ModelProto:
    """A copy, to be changed."""
    return onnx.load(cnn)


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, folder / "changed.onnx")
    return folder / "changed.onnx"


class TestSame:
    def test_names_of_nodes_and_what_is_no_number(self, cnn: Path, changed: onnx.ModelProto, tmp_path: Path) -> None:
        for number, node in enumerate(changed.graph.node):
            node.name, node.doc_string = f"other{number}", "words"
        changed.graph.name, changed.producer_name, changed.doc_string = "other", "me", "words"
        changed.metadata_props.add(key="a", value="b")
        changed.graph.value_info.append(helper.make_tensor_value_info("c1", TensorProto.FLOAT, None))
        assert canonical_hash(saved(changed, tmp_path)) == canonical_hash(cnn)

    def test_the_order_of_tensors_attributes_and_operator_sets(self, cnn: Path, changed: onnx.ModelProto, tmp_path: Path) -> None:
        changed.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        first = saved(changed, tmp_path).read_bytes()
        one = canonical_hash(tmp_path / "changed.onnx")
        tensors = list(changed.graph.initializer)[::-1]
        del changed.graph.initializer[:]
        changed.graph.initializer.extend(tensors)
        sets = list(changed.opset_import)[::-1]
        del changed.opset_import[:]
        changed.opset_import.extend(sets)
        node = changed.graph.node[0]
        node.attribute.append(helper.make_attribute("group", 1))
        attributes = list(node.attribute)[::-1]
        assert saved(changed, tmp_path).read_bytes() != first
        two = canonical_hash(tmp_path / "changed.onnx")
        del node.attribute[:]
        node.attribute.extend(attributes)
        assert canonical_hash(saved(changed, tmp_path)) == two != one
        assert one != canonical_hash(cnn)

    def test_numbers_in_a_typed_field_and_beside_the_file(self, cnn: Path, changed: onnx.ModelProto, tmp_path: Path) -> None:
        for tensor in changed.graph.initializer:
            array = numpy_helper.to_array(tensor)
            tensor.ClearField("raw_data")
            tensor.float_data.extend(array.ravel().tolist())
        assert canonical_hash(saved(changed, tmp_path)) == canonical_hash(cnn)
        onnx.save(onnx.load(cnn), tmp_path / "beside.onnx", save_as_external_data=True, location="beside.data", size_threshold=0)
        assert canonical_hash(tmp_path / "beside.onnx") == canonical_hash(cnn)


class TestOther:
    def test_any_number_type_or_edge(self, cnn: Path, tmp_path: Path) -> None:
        hashes = {canonical_hash(cnn)}
        for change in (
            lambda m: m.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.zeros((4, 1, 3, 3), "f"), "w1")),
            lambda m: m.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.zeros(4, "d"), "b1")),
            lambda m: m.graph.initializer[2].dims.__setitem__(0, 2),
            lambda m: m.graph.node[3].input.__setitem__(1, "c2"),
            lambda m: m.graph.node[0].attribute[0].ints.__setitem__(0, 0),
            lambda m: setattr(m.graph.node[1], "op_type", "Tanh"),
            lambda m: setattr(m.graph.node[1], "domain", "mine"),
            lambda m: setattr(m.opset_import[0], "version", 18),
            lambda m: setattr(m, "ir_version", 9),
            lambda m: setattr(m.graph.output[0], "name", "p"),
            lambda m: m.graph.input[0].type.tensor_type.shape.dim[0].__setattr__("dim_value", 3),
        ):
            model = onnx.load(cnn)
            change(model)
            hashes.add(canonical_hash(saved(model, tmp_path)))
        assert len(hashes) == 12

    def test_what_is_inside_branches_counts(self, tmp_path: Path) -> None:
        model = one_op.branches()
        one = canonical_hash(saved(model, tmp_path))
        body = model.graph.node[0].attribute[0].g
        body.node[0].name = "other"
        assert canonical_hash(saved(model, tmp_path)) == one
        body.initializer[0].raw_data = bytes(len(body.initializer[0].raw_data))
        assert canonical_hash(saved(model, tmp_path)) != one


def test_a_file_of_another_format_counts_by_its_bytes(tmp_path: Path) -> None:
    for name, content in (("a", b"\x1c\0\0\0ORTM1"), ("b", b"\x1c\0\0\0ORTM1"), ("c", b"\x1c\0\0\0ORTM2"), ("d", b"\x08\xff")):
        (tmp_path / name).write_bytes(content)
    found = [canonical_hash(tmp_path / name) for name in "abcd"]
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_text_and_sparse_tensors_count(tmp_path: Path) -> None:
    hashes = []
    for word, number in (("a", 1.0), ("b", 1.0), ("a", 2.0)):
        model = one_op.conv()
        model.graph.initializer.append(numpy_helper.from_array(np.array([word], dtype=object), "t"))
        values = helper.make_tensor("s", TensorProto.FLOAT, [1], [number])
        indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
        model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2]))
        hashes.append(canonical_hash(saved(model, tmp_path)))
    assert len(set(hashes)) == 3
