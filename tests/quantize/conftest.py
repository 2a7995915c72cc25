from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from harness.quantize import method
from harness.quantize.model.graph import opset_of
from harness.quantize.model.model import SourceModel
from harness.quantize.model.outline import Summary, summarize
from harness.study import study as studies
from tests.models import images, tiny_cnn, tiny_mlp

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnx import ModelProto

    from harness.study.study import Study


def brief(proto: ModelProto, size: int | None = None) -> Summary:
    """Summarize a model that is in no file."""
    proto_opset = opset_of(proto)
    assert proto_opset
    source = SourceModel(Path("model.onnx"), proto, "", size or proto.ByteSize(), (), (), proto_opset, proto.ir_version)
    return summarize(source)


def patch_make(monkeypatch: pytest.MonkeyPatch, name: str, make: Callable[..., tuple[str, ...]]) -> None:
    """Let a method make its variants in another way, until the test ends."""
    monkeypatch.setitem(method._REGISTERED, name, dataclasses.replace(method.named(name), make=make))


@pytest.fixture
def cnn(tmp_path: Path) -> Path:
    return tiny_cnn(tmp_path / "cnn.onnx")


@pytest.fixture
def mlp(tmp_path: Path) -> Path:
    return tiny_mlp(tmp_path / "mlp.onnx")


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    """Data for tiny_cnn: 6 samples, the later ones larger."""
    path = tmp_path / "calibration.npz"
    np.savez(path, x=images(6) * np.arange(1, 7, dtype=np.float32)[:, None, None, None])
    return path


@pytest.fixture
def write_study(tmp_path: Path, cnn: Path, calibration: Path) -> Callable[[str], Study]:
    """Write a study of tiny_cnn, with the given TOML after its ``[model]``."""

    def write(more: str = "") -> Study:
        text = f'name = "tiny"\n[model]\npath = "{cnn.name}"\ndims = {{ batch = 1 }}\ncalibration = "{calibration.name}"\n{more}'
        path = tmp_path / "study.toml"
        path.write_text(text, encoding="utf-8")
        return studies.load(path)

    return write
