from __future__ import annotations

import io
import logging
import sys
import threading
from typing import TYPE_CHECKING

import onnx
import pytest
from onnx import TensorProto, helper

from harness.quantize.model.graph import is_quantized, name_nodes, nodes, sort_nodes
from harness.quantize.quiet import quiet
from harness.quantize.reasons import RecipeError, reason_of
from harness.quantize.verify import readback
from tests.models import make_model, tiny_cnn

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto


def with_branches() -> ModelProto:
    """If takes ``late`` only inside its branches."""

    def branch(name: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(f"y{name}", TensorProto.FLOAT, [4])
        return helper.make_graph([helper.make_node("Neg", ["late"], [f"y{name}"])], name, [], [out])

    proto = make_model(
        [
            helper.make_node("Relu", ["x"], ["late"]),
            helper.make_node("If", ["c"], ["y"], then_branch=branch("a"), else_branch=branch("b")),
        ],
        {"x": [4]},
        {"y": [4]},
    )
    proto.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    return proto


def test_sorting_sees_what_branches_take(tmp_path: Path) -> None:
    proto = with_branches()
    onnx.checker.check_model(proto)
    assert not sort_nodes(proto)
    shuffled = list(reversed([*proto.graph.node]))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in shuffled]
    del proto.graph.node[:]
    proto.graph.node.extend(copies)
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(proto)
    onnx.save(proto, tmp_path / "m.onnx")
    readback.mend(tmp_path / "m.onnx")
    mended = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(mended)
    assert [node.op_type for node in mended.graph.node] == ["Relu", "If"]


def test_sorting_leaves_a_cycle_to_the_checker() -> None:
    proto = make_model([helper.make_node("Neg", ["a"], ["b"]), helper.make_node("Neg", ["b"], ["a"])], {"x": [1]}, {"b": [1]})
    assert not sort_nodes(proto)
    assert len(proto.graph.node) == 2


def test_nodes_of_branches_are_walked() -> None:
    assert [node.op_type for node in nodes(with_branches())] == ["Relu", "If", "Neg", "Neg"]


def test_unnamed_nodes_get_names_of_their_own() -> None:
    proto = make_model(
        [helper.make_node("Neg", ["x"], ["a"]), helper.make_node("Neg", ["a"], ["y"], "Neg_0")], {"x": [1]}, {"y": [1]}
    )
    name_nodes(proto)
    assert [node.name for node in proto.graph.node] == ["Neg_0_unnamed", "Neg_0"]


@pytest.mark.parametrize("kind", ["QLinearConv", "DequantizeLinear", "MatMulNBits", "QGemm"])
def test_quantized_operators(kind: str) -> None:
    assert is_quantized(kind)
    assert not is_quantized("Conv")


def test_quiet_is_for_one_thread_only(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)

    def other() -> None:
        print("shown")  # noqa: T201
        logging.getLogger().error("shown")

    with quiet():
        print("dropped")  # noqa: T201
        logging.getLogger().error("dropped")
        logging.getLogger("onnxruntime.tools").error("dropped")
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert sys.stdout is out
    assert out.getvalue() == "shown\n"
    assert [record.message for record in caplog.records] == ["shown"]
    logging.getLogger("onnxruntime.tools").error("again")
    assert caplog.records[-1].message == "again"


def test_no_handler_is_installed_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with quiet():
        logging.warning("onnxruntime's tools log like this")  # noqa: LOG015
    assert logging.getLogger().handlers == []


def test_quiet_is_undone_after_an_error() -> None:
    before = (sys.stdout, sys.stderr)
    with pytest.raises(ValueError, match="x"), quiet():
        raise ValueError("x")  # noqa: EM101
    assert (sys.stdout, sys.stderr) == before


@pytest.mark.parametrize(
    ("exc", "said"),
    [
        (ValueError("a\nb"), "ValueError: a"),
        (ValueError("\n=====\n  a"), "ValueError: a"),
        (ValueError("node:\n  conv"), "ValueError: node: conv"),
        (ValueError(), "ValueError: "),
        (RecipeError("plain"), "plain"),
        (RuntimeError("1 Status Message: 2 Status Message: root"), "RuntimeError: root"),
        (
            RuntimeError(
                "[ONNXRuntimeError] : 1 : FAIL : Load model from m.onnx failed:/onnxruntime_src/onnxruntime/core/graph/model.cc:256 "
                "onnxruntime::Model::Model(onnx::ModelProto&&, std::function<bool(int)>, const onnxruntime::ModelOptions&) "
                "Unsupported model IR version: 14, max supported IR version: 13"
            ),
            "RuntimeError: Load model from m.onnx failed:Unsupported model IR version: 14, max supported IR version: 13",
        ),
        (
            RuntimeError("/onnxruntime_src/a.cc:23 a::Locale(const string&)::<lambda()> [with T = float] no (such) name"),
            "RuntimeError: no (such) name",
        ),
    ],
)
def test_reasons(exc: Exception, said: str) -> None:
    assert reason_of(exc) == said


def test_readback_tells_what_does_not_load(tmp_path: Path) -> None:
    proto = onnx.load(tiny_cnn(tmp_path / "m.onnx"))
    proto.graph.node[1].domain = "org.example"
    proto.opset_import.append(helper.make_opsetid("org.example", 1))
    onnx.save(proto, tmp_path / "m.onnx")
    (note,) = readback.refusals(tmp_path / "m.onnx", readback.refused(tmp_path / "m.onnx"))
    assert "on this machine does not load it: " in note
    assert str(tmp_path) not in note
