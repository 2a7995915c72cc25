"""A crash of onnxruntime ends the child that loads a model, and nothing else."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from harness.quantize.build import build
from harness.quantize.verify import isolated
from harness.study import study as studies
from tests.models import make_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def fatal_load(*_: object) -> None:
    os.abort()


@pytest.fixture(autouse=True)
def no_child_left() -> Iterator[None]:
    yield
    isolated.end()


def model(path: Path) -> Path:
    nodes = [make_node("MatMul", ["x", "w"], ["m"], "multiply"), make_node("Relu", ["m"], ["y"], "clamp")]
    weight = np.ones((8, 4), np.float32)
    onnx.save(make_model(nodes, {"x": [2, 8]}, {"y": [2, 4]}, {"w": weight}), path)
    return path


def test_a_crash_is_an_exception_and_the_next_call_has_another_child(tmp_path: Path) -> None:
    isolated.start()
    first = isolated.call(os.getpid)
    assert first != os.getpid()
    with pytest.raises(isolated.CrashError, match=r"onnxruntime \S+ dies \(SIGSEGV\) when it loads .* exclude_nodes"):
        isolated.call(crash)
    second = isolated.call(os.getpid)
    assert second not in {first, os.getpid()}
    (outputs,) = isolated.load_and_run(model(tmp_path / "m.onnx"), [{"x": np.ones((2, 8), np.float32)}])
    np.testing.assert_array_equal(outputs[0], np.full((2, 4), 8, np.float32))
    isolated.end()
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)


def test_what_onnxruntime_raises_comes_through(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(Exception, match=r"InvalidProtobuf|INVALID_PROTOBUF"):
        isolated.load_and_run(path)


def test_a_crash_costs_one_variant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model(tmp_path / "m.onnx")
    (tmp_path / "study.toml").write_text(
        'name = "s"\n[model]\npath = "m.onnx"\n[variants]\nmethods = ["dynamic", "fp16"]\n', encoding="utf-8"
    )
    monkeypatch.setattr(isolated, "_load_and_run", fatal_load)
    variants = build(studies.load(tmp_path / "study.toml"), tmp_path / "out")
    states = {variant.name: variant.state for variant in variants}
    assert states.pop("fp16") == "failed"
    assert set(states.values()) == {"made"}
    (reason,) = [variant.reason for variant in variants if variant.state == "failed"]
    assert reason is not None
    assert "SIGABRT" in reason
    assert "exclude_nodes" in reason
    assert not isolated._POOLS
