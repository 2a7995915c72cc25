from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import onnx
import pytest

from harness.errors import StudyError
from harness.quantize.build import build
from harness.quantize.matrix import plan
from tests.models import tiny_cnn, tiny_mlp

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.study.study import Study

    WriteStudy = Callable[[str], Study]

STATIC = '[variants]\nmethods = ["static"]\nformats = ["QDQ"]\nactivations = ["QUInt8"]\nweights = ["QInt8"]\n'


def test_a_finished_model_beside_what_is_made(write_study: WriteStudy, tmp_path: Path) -> None:
    """As a model that was exported after training with quantization: QDQ, of the same inputs and outputs."""
    made = {each.name: each for each in build(write_study(STATIC), tmp_path / "out")}
    shutil.copyfile(made["static-QDQ-U8S8"].path or "", tmp_path / "qat.onnx")
    model = onnx.load(tmp_path / "qat.onnx")
    onnx.save(model, tmp_path / "beside.onnx", save_as_external_data=True, location="beside.data", size_threshold=0)
    text = "".join(f'[[variant]]\nmethod = "given"\nmodel = "{name}.onnx"\n' for name in ("qat", "beside"))
    found = {each.name: each for each in build(write_study(STATIC + text), tmp_path / "out", cache=tmp_path / "cache")}
    assert list(found) == ["fp32", "static-QDQ-U8S8", "given-qat", "given-beside"]
    assert found["given-qat"].sha256 == made["static-QDQ-U8S8"].sha256
    assert found["given-qat"].notes == ()
    assert onnx.load(found["given-beside"].path or "").graph.node == model.graph.node
    assert not (tmp_path / "out" / "beside.data").exists()


def test_models_that_do_not_fit(write_study: WriteStudy, tmp_path: Path) -> None:
    tiny_mlp(tmp_path / "mlp.onnx")
    tiny_cnn(tmp_path / "fixed.onnx", batch=1)
    (tmp_path / "text.onnx").write_text("no model")
    names = ("mlp", "fixed", "text", "nowhere")
    text = "[variants]\nmethods = []\n" + "".join(f'[[variant]]\nmethod = "given"\nmodel = "{name}.onnx"\n' for name in names)
    found = {each.name: each for each in build(write_study(text), tmp_path / "out")}
    assert (found["given-mlp"].reason or "").endswith(
        "mlp.onnx: its inputs are x float32 [batch, 16], and those of cnn.onnx are x float32 [batch, 1, 8, 8]: it is another model"
    )
    assert found["given-fixed"].state == "made"
    assert (found["given-text"].reason or "").endswith("text.onnx: not an ONNX model but text")
    assert (found["given-nowhere"].reason or "").endswith("nowhere.onnx: no such file")


def test_what_a_spelled_out_variant_may_say(write_study: WriteStudy) -> None:
    with pytest.raises(StudyError, match=r'a variant of method given needs a finished model: model = "FILE.onnx"'):
        write_study('[[variant]]\nmethod = "given"\n')
    with pytest.raises(
        StudyError, match=r"mine: bits, format have no effect with dynamic; the keys for dynamic are: weight, per_channel"
    ):
        plan(write_study('[[variant]]\nname = "mine"\nmethod = "dynamic"\nbits = 4\nformat = "QDQ"\n'))
