"""What files are stamped with, and what onnxruntime makes of it."""

from __future__ import annotations

import re

import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper

from harness.quantize.model import versions as stamp
from tests.models import make_model


def model(*, ir: int = 8, opset: int = 13, **imports: int) -> ModelProto:
    made = make_model([helper.make_node("Relu", ["x"], ["y"], "relu")], {"x": [1]}, {"y": [1]}, opset=opset)
    made.ir_version = ir
    made.opset_import.extend(helper.make_opsetid(domain.replace("_", "."), number) for domain, number in imports.items())
    return made


def loads(proto: ModelProto) -> bool:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001 - onnxruntime's have no common base
        return False
    return True


def test_the_table_is_right_about_this_onnxruntime() -> None:
    found = stamp.limits(onnxruntime.__version__)
    assert found is not None
    assert loads(model(ir=found.ir, opset=found.opset, ai_onnx_ml=found.ml))
    for newer in (
        model(ir=found.ir + 1),
        model(ir=found.ir, opset=found.opset + 1),
        model(ir=found.ir, ai_onnx_ml=found.ml + 1),
    ):
        assert not loads(newer)
        assert stamp.refusal(newer, onnxruntime.__version__)


def test_the_table_is_in_order() -> None:
    since = [row.since for row in stamp.LIMITS]
    assert since == sorted(since, reverse=True)
    for newer, older in zip(stamp.LIMITS, stamp.LIMITS[1:], strict=False):
        assert (newer.ir, newer.opset, newer.ml) >= (older.ir, older.opset, older.ml)


@pytest.mark.parametrize(
    ("runtime", "ir"),
    [("1.15.0", 9), ("1.17.3", 9), ("1.19.2", 10), ("1.22.1", 10), ("1.23.2", 11), ("1.31.1", 12), ("2.0.1", 12)],
)
def test_the_ir_version_is_lowered_for_a_runtime(runtime: str, ir: int) -> None:
    made = model(ir=12)
    assert stamp.stamp(made, runtime) == (ir < 12)
    assert made.ir_version == ir
    onnx.checker.check_model(made)


@pytest.mark.parametrize("runtime", [None, "1.14.1", "0.5", "unknown", ""])
def test_nothing_known_changes_nothing(runtime: str | None) -> None:
    made = model(ir=13)
    assert not stamp.stamp(made, runtime)
    assert stamp.refusal(made, runtime) is None


def test_it_is_never_raised() -> None:
    made = model(ir=4)
    assert not stamp.stamp(made, "1.31.1")
    assert made.ir_version == 4


def test_unused_operator_sets_go() -> None:
    made = model(ai_onnx_ml=5, com_microsoft_nchwc=1)
    assert "ai.onnx.ml" in (stamp.refusal(made, "1.17.3") or "")
    assert stamp.stamp(made, None)
    assert [entry.domain for entry in made.opset_import] == [""]
    assert stamp.refusal(made, "1.17.3") is None


def test_refusals_say_what_is_too_new() -> None:
    assert stamp.refusal(model(ir=10), "1.17.3") == "onnxruntime 1.17.3 takes IR version 9 at most, and the file says 10"
    said = stamp.refusal(model(ir=8, opset=21), "1.17.3")
    assert said == "onnxruntime 1.17.3 takes opset 20 of ai.onnx at most, and the file says 21"
    assert stamp.refusal(model(com_example=99), "1.17.3") is None


def tensor(kind: str) -> TensorProto:
    return TensorProto(name="w", data_type=getattr(TensorProto, kind), dims=[2], raw_data=b"\1\1\1\1")


@pytest.mark.parametrize(("kind", "ir"), sorted(stamp.TYPES_IR.items()))
def test_types_need_the_version_that_brought_them(kind: str, ir: int) -> None:
    made = model(ir=13, opset=9)
    made.graph.input.append(helper.make_tensor_value_info("w", getattr(TensorProto, kind), [2]))
    made.graph.initializer.append(tensor(kind))
    assert stamp.needed(made) == max(ir, 4)
    stamp.stamp(made, "1.15.1")
    assert made.ir_version == max(9, ir)
    # The definition of the format is where that is written.
    version = re.search(rf"IR VERSION {ir} published.*?(?=IR VERSION|enum|\Z)", history(), re.DOTALL)
    assert version is not None
    assert kind in version[0]


def history() -> str:
    """The comments on the IR's versions in onnx.proto."""
    from pathlib import Path

    return (Path(onnx.__file__).parent / "onnx.proto").read_text(encoding="utf-8").split("enum Version {")[1].split("\n}")[0]


def test_contents_that_need_a_version() -> None:
    needed = {}
    for name in ("function", "sparse", "metadata", "cast", "loose", "plain"):
        made = model(opset=9)
        if name == "function":
            made.functions.add(name="f", domain="local")
        elif name == "sparse":
            made.graph.sparse_initializer.add()
        elif name == "metadata":
            made.graph.node[0].metadata_props.add(key="a", value="b")
        elif name == "cast":
            made.graph.node[0].attribute.append(helper.make_attribute("to", TensorProto.INT4))
        elif name == "loose":
            made.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0]))
        needed[name] = stamp.needed(made)
    assert needed == {"function": 8, "sparse": 6, "metadata": 10, "cast": 10, "loose": 4, "plain": 4}


@given(ir=st.integers(3, 13), opset=st.integers(7, 26), runtime=st.sampled_from([row.since for row in stamp.LIMITS]))
def test_the_checker_takes_every_stamp(ir: int, opset: int, runtime: tuple[int, int]) -> None:
    made = model(ir=ir, opset=opset)
    stamp.stamp(made, f"{runtime[0]}.{runtime[1]}.0")
    assert made.ir_version <= ir
    onnx.checker.check_model(made)


@pytest.mark.parametrize(
    ("versions", "oldest"),
    [
        ([], None),
        ([None, "x"], None),
        (["1.31.1", "1.9.0", None], "1.9.0"),
        (["1.20.10", "1.20.2"], "1.20.2"),
        (["1.18"], "1.18"),
    ],
)
def test_the_oldest_of_some(versions: list[str | None], oldest: str | None) -> None:
    assert stamp.oldest(versions) == oldest
