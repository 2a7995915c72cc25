from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from harness import study as studies
from tests.models import images, tiny_cnn, tiny_mlp

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.study import Study


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
