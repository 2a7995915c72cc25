from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest

from harness.quantize.build import build
from harness.quantize.methods import ort_format
from harness.quantize.reasons import RecipeError
from tests.models import images

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.study.study import Study


def test_every_variant_for_each_platform(write_study: Callable[[str], Study], tmp_path: Path) -> None:
    study = write_study(
        '[variants]\nmethods = ["prepared", "fp16", "dynamic", "static"]\nformats = ["QDQ"]\nactivations = ["QInt8"]\nweights = ["QInt8"]\n'
        'file_formats = ["onnx", "ort-amd64", "ort-arm"]\n'
    )
    found = {variant.name: variant for variant in build(study, tmp_path / "out", cache=tmp_path / "cache")}
    assert len(found) == 1 + 4 * 3
    outputs = {}
    for name, variant in found.items():
        assert variant.path is not None, variant.reason
        own = variant.recipe.file_format != "onnx"
        assert variant.path.name == f"{name}.ort" if own else f"{name}.onnx"
        assert (variant.path.read_bytes()[4:8] == b"ORTM") is own
        outputs[name] = onnxruntime.InferenceSession(variant.path).run(None, {"x": images(4)})[0]
        assert variant.notes == ()
    for name, variant in found.items():
        if variant.recipe.file_format == "ort-amd64":
            np.testing.assert_allclose(outputs[name], outputs[name.removesuffix("-ort-amd64")], atol=0.01)
    # Signed activations are rewritten for x86 and kept for ARM.
    assert found["static-QDQ-S8S8-ort-arm"].sha256 != found["static-QDQ-S8S8-ort-amd64"].sha256
    assert not [path for path in (tmp_path / "out").iterdir() if path.suffix not in {".onnx", ".ort"}]
    again = {variant.name: variant for variant in build(study, tmp_path / "other", cache=tmp_path / "cache")}
    assert {name: variant.sha256 for name, variant in again.items()} == {name: variant.sha256 for name, variant in found.items()}
    assert again["prepared-ort-arm"].path == tmp_path / "other" / "prepared-ort-arm.ort"


def test_a_file_that_has_become_larger_is_told(cnn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(cnn.read_bytes())
    before = cnn.stat().st_size
    assert ort_format.finish(cnn, "ort-amd64") == (), "a small one has tables to speak of, and nothing else"
    monkeypatch.setattr(ort_format, "TABLES", 0)
    (note,) = ort_format.finish(other, "ort-amd64")
    assert note == f"as .ort it has {cnn.stat().st_size / before:.1f} times the bytes of its .onnx: {ort_format.WHY}"


def test_a_model_that_does_not_load(cnn: Path) -> None:
    model = onnx.load(cnn)
    model.graph.node[0].domain = "nobody.knows"
    model.opset_import.append(onnx.helper.make_opsetid("nobody.knows", 1))
    onnx.save(model, cnn)
    with pytest.raises(RecipeError, match=r"^it can't be written in onnxruntime's format: Fail: .*nobody\.knows"):
        ort_format.finish(cnn, "ort-arm")
    before = list(cnn.parent.iterdir())
    ort_format.finish(cnn, "onnx")
    assert list(cnn.parent.iterdir()) == before


def test_the_users_log_is_left_alone() -> None:
    code = "import logging, harness.quantize.methods.ort_format; print(logging.getLogger().handlers, logging.getLogger().level)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "30"]
