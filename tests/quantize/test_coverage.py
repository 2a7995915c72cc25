"""docs/coverage.md stays true: nothing crashes on the models of the onnx package's backend tests, and as much is quantized as it says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import onnx
import onnxruntime
import pytest

from harness.errors import HarnessError
from harness.quantize.matrix import plan
from harness.quantize.model.model import read_model
from harness.quantize.planning.inspect import inspect_model
from harness.quantize.planning.planner import plan_build
from harness.quantize.platform import platform
from harness.study import study as studies
from tests.conftest import ROOT

pytestmark = pytest.mark.long
PAGE = ROOT / "docs" / "coverage.md"
SCRIPT = ROOT / "benchmarks" / "coverage.py"
SAMPLE = 24
PLATFORMS = [platform("x86_64,avx2,1.17.3"), platform("aarch64,asimddp,1.23.2")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models; written by the sample's run, which takes the small ones of them."""
    return tmp_path_factory.mktemp("coverage")


@pytest.fixture(scope="module")
def sample(folder: Path) -> dict[str, dict[str, dict[str, int]]]:
    command = [sys.executable, str(SCRIPT), "--folder", str(folder), "--sample", str(SAMPLE), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, dict[str, int]]] = json.loads(done.stdout)
    return found


def shares(counts: list[list[int]]) -> float:
    """The share of what was quantized in what was tried, over all recipes."""
    done = sum(quantized for quantized, *_ in counts)
    return done / sum(map(sum, counts))


def test_a_sample_is_quantized_as_the_page_says(sample: dict[str, dict[str, dict[str, int]]]) -> None:
    assert sample["crashed"] == {}
    rows = re.findall(
        r"^\| ([\w-]+) \| (\d+) \| (?:[\d.]+ %|–) \| \d+ \| \d+ \| (\d+) \| (\d+) \|", PAGE.read_text(), re.MULTILINE
    )
    assert {name for name, *_ in rows} == set(sample["recipes"])
    told = shares([list(map(int, row[1:])) for row in rows])
    seen = shares([[found[key] for key in ("quantized", "failed", "not run")] for found in sample["recipes"].values()])
    assert seen == pytest.approx(told, abs=0.15)


def test_the_page_is_of_these_versions() -> None:
    found = re.search(r"With onnx (\S+) and onnxruntime (\S+);", PAGE.read_text())
    assert found
    # Else write it anew: python benchmarks/coverage.py --write docs/coverage.md
    assert found.groups() == (onnx.__version__, onnxruntime.__version__)


@pytest.mark.usefixtures("sample")
def test_every_model_is_described_or_refused_in_words(folder: Path) -> None:
    files = sorted(folder.rglob("model.onnx"))
    assert len(files) > 1500
    refused = []
    for file in files:
        try:
            facts = inspect_model(file)
            study = studies.for_model(file, dims={name: [1] for name in facts.open_dims})
            planned = plan_build(study, plan(study), read_model(file), PLATFORMS)
        except HarnessError as exc:
            refused.append(str(exc))
            continue
        assert len(facts.nodes) == sum(facts.op_histogram.values())
        assert len(planned.variants) == len(plan(study))
    assert 0 < len(refused) < 100
    assert all(re.search(r"model\.onnx: (these inputs are|the model does not say)", message) for message in refused)
