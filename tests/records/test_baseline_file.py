"""What the file of a saved baseline must hold."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from harness.errors import ResultsError
from harness.records import baseline_file

if TYPE_CHECKING:
    from pathlib import Path


def with_noise(path: Path, noise: float | None) -> Path:
    device = {"context": {"arch": "aarch64", "cores": 4, "kernel": "6.0"}, "levels": {}, "noise": noise}
    path.write_text(json.dumps({"format": 1, "name": "2.3", "kind": "saved", "devices": {"board": device}}))
    return path


@pytest.mark.parametrize("noise", [float("nan"), float("inf"), -0.01])
def test_a_noise_that_is_no_share_is_refused(tmp_path: Path, noise: float) -> None:
    with pytest.raises(ResultsError, match=r"devices\.board\.noise: "):
        baseline_file.read(with_noise(tmp_path / "2.3.json", noise))


@pytest.mark.parametrize("noise", [None, 0.0, 0.02])
def test_a_noise_that_is_a_share_or_unknown_is_read(tmp_path: Path, noise: float | None) -> None:
    assert baseline_file.read(with_noise(tmp_path / "2.3.json", noise)).devices["board"].noise == noise
