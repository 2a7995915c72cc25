"""docs/patterns.md stays true: a sample of the structures is made as planned, and what is lost in it is explained."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.long
PAGE = ROOT / "docs" / "patterns.md"
SCRIPT = ROOT / "benchmarks" / "patterns.py"
# One of each family, and those in which most went wrong once.
SAMPLE = (
    "heads/shared-head-both-depth1",
    "heads/yolo-concat-size640-boxes-first-opset17",
    "attention/masked-attention-where-finfo",
    "attention/infinite-mask-add-opset17",
    "language/experts-softmax-batched",
    "language/decoder-with-past-layers1-heads2",
    "audio/noisy-tail-RandomNormalLike",
    "convolutions/transposed-groups2-bias-none",
    "convolutions/padded-constant-lowest-pool-opset15",
    "norms/clipped-low1-high3-reshape",
    "pyramids/top-down-linear-add-opset10",
    "processing/logarithm-floor1e-07-clip",
    "residual/inverted-residual-hardswish-gated",
    "graphs/loop-body-activation-opset17",
)


def run(*arguments: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


def test_a_sample_is_made_as_planned_and_explained(tmp_path: Path) -> None:
    only = [word for name in SAMPLE for word in ("--only", name)]
    code, text = run("--folder", str(tmp_path), *only, "--json")
    found: dict[str, Any] = json.loads(text)
    assert found["structures"] == len(SAMPLE)
    assert {kind: found[kind] for kind in ("crash", "unfit", "refused", "mismatches")} == {
        "crash": {},
        "unfit": {},
        "refused": {},
        "mismatches": {},
    }
    assert {recipe: counts["unexplained"] for recipe, counts in found["recipes"].items() if counts["unexplained"]} == {}
    assert code == 0


def test_the_page_is_of_these_versions_and_structures() -> None:
    text = PAGE.read_text()
    found = re.search(r"With onnx (\S+) and\s+onnxruntime (\S+);", text)
    assert found
    # Else write it anew: python benchmarks/patterns.py --write docs/patterns.md
    assert found.groups() == (onnx.__version__, onnxruntime.__version__)
    _, names = run("--list")
    count = re.search(r"of (\d+) generated structures", text)
    assert count
    assert int(count[1]) == len(names.splitlines()) >= 300
