"""A small study that is measured in seconds, and the command as a function."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from tests.models import tiny_cnn

STUDY = """\
name = "tiny"
[model]
path = "model.onnx"
dims = { batch = 1 }
calibration = "calibration.npz"
evaluation = "evaluation.npz"
[measure]
rounds = 3
precision = 0.00001
rebuilds = 2
warmup = 0.01
block = 0.004
max_time = "20m"
"""


@dataclass(frozen=True)
class Outcome:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Command(Protocol):
    """Runs ``harness`` with these words."""

    def __call__(self, *words: str) -> Outcome: ...


@pytest.fixture
def harness() -> Command:
    """The command, in this process."""

    def run(*words: str) -> Outcome:
        result = CliRunner().invoke(app, list(words), catch_exceptions=False)
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def study() -> Path:
    """A study of a tiny convolutional network, in the working folder."""
    folder = Path("tiny")
    folder.mkdir()
    tiny_cnn(folder / "model.onnx")
    chance = np.random.default_rng(3)
    images = chance.normal(size=(12, 1, 8, 8)).astype(np.float32)
    np.savez(folder / "calibration.npz", x=images)
    np.savez(folder / "evaluation.npz", x=images, labels=chance.integers(0, 3, 12))
    (folder / "study.toml").write_text(STUDY)
    return folder
