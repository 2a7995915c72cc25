"""harness check, claims, compare and baseline on this machine."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from tests.models import conv_chain, tiny_cnn

if TYPE_CHECKING:
    from tests.cli.conftest import Command

pytestmark = pytest.mark.slow

STUDY = """\
name = "chain"
[model]
path = "model.onnx"
[variants]
methods = ["given"]
[measure]
rounds = 8
rebuilds = 2
warmup = 0.02
block = 0.004
max_time = "20m"
[gate]
max_regression = 0.5
"""
# Four times as much work, so that noise decides nothing.
BASE, SLOWER = 3, 12


@pytest.fixture
def chain() -> Path:
    """A study whose candidate is its baseline: base.onnx and model.onnx are the same."""
    folder = Path("chain")
    folder.mkdir()
    conv_chain(folder / "base.onnx", BASE)
    shutil.copy(folder / "base.onnx", folder / "model.onnx")
    (folder / "study.toml").write_text(STUDY)
    return folder


def test_the_same_model_passes_and_a_slower_one_fails(harness: Command, chain: Path) -> None:
    done = harness("check", str(chain), "--baseline", str(chain / "base.onnx"))
    assert done.code == 0, done.out + done.err
    assert done.out.splitlines()[-2].startswith("PASSED: 2 passed; against ")
    conv_chain(chain / "model.onnx", SLOWER)
    done = harness("check", str(chain), "--baseline", str(chain / "base.onnx"), "--json")
    assert done.code == 1, done.out + done.err
    check, outputs = done.json["devices"][0]["checks"]
    assert check["verdict"] == "regressed"
    assert check["confirmed"] > 1.5
    assert (outputs["metric"], outputs["verdict"]) == ("outputs", "passed")
    assert "confirming: round 1 " in done.err
    # The run says the same later on, in every format.
    shown = harness("show", "latest", "--format", "junit")
    assert "<failure" in shown.out
    assert harness("show", "latest", "--format", "github").out.startswith(
        "::error title=given on local%3A latency.median regressed::"
    )


def test_a_bare_quantized_model_is_taken_as_it_is(harness: Command) -> None:
    tiny_cnn(Path("m.onnx"))
    assert harness("quantize", "m.onnx", "-o", "made", "--dim", "batch=1", "--variants", "static").code == 0
    model = "made/static-QDQ-U8S8.onnx"
    assert "--variants given" in harness("run", model).err
    words = ["--dim", "batch=1", "--rounds", "3", "--max-regression", "0.9"]
    done = harness("check", model, "--baseline", model, *words)
    assert done.code == 0, done.err
    assert "given" in done.out


def test_a_saved_baseline_is_a_small_file_and_models_by_hash(harness: Command, chain: Path) -> None:
    assert harness("run", str(chain), "--rounds", "3").code == 0
    done = harness("baseline", "save", "latest", "2.3", "--json")
    assert done.json["without_noise"] == ["local"]
    assert "no noise is stored for local" in done.err
    assert done.code == 0, done.err
    file = Path("baselines/2.3.json")
    assert done.json["file"] == str(file)
    assert file.stat().st_size < 5000
    assert "already" in harness("baseline", "save", "latest", "2.3").err
    assert harness("baseline", "save", "latest", "2.3", "--force").code == 0
    assert harness("baseline", "list", "--json").json[0]["models_here"] == 1
    # Even when the run is gone.
    shutil.rmtree("results")
    done = harness("check", str(chain), "--baseline", "2.3")
    assert done.code == 0, done.out + done.err
    assert "the baseline itself since " in done.out
    (model,) = Path(harness("baseline", "save", "latest", "next", "--json").json["models"]).iterdir()
    model.write_bytes(b"something else")
    done = harness("check", str(chain), "--baseline", "2.3")
    assert done.code == 2
    assert "has changed since it was measured" in done.err
    model.unlink()
    done = harness("check", str(chain), "--baseline", "2.3")
    assert "is missing" in done.err
    file.write_text("{}")
    assert "the file is not a baseline, or is damaged: " in harness("check", str(chain), "--baseline", "2.3").err


def test_a_study_is_compared_variant_by_variant(harness: Command, study: Path) -> None:
    assert harness("run", str(study), "--rounds", "3", "--variant", "fp16").code == 0
    gate = ["--baseline", "latest", "--metric", "size", "--metric", "accuracy", "--max-regression", "0"]
    done = harness("check", str(study), *gate, "--json")
    checks = done.json["devices"][0]["checks"]
    assert {(each["case"], each["metric"]) for each in checks} == {
        (name, each) for name in ("fp32", "fp16") for each in ("size", "accuracy", "outputs")
    }
    assert {each["verdict"] for each in checks} == {"passed"}
    assert any("not judged, because only the candidate has them: " in warning for warning in done.json["warnings"])
    assert done.code == 0
    # A gate on files and outputs alone times nothing.
    assert all(row["median_ms"] is None for row in done.json["devices"][0]["rows"])


def test_what_can_not_be_compared_is_refused_before_anything_is_measured(harness: Command, chain: Path, study: Path) -> None:
    done = harness("check", str(chain), "--baseline", "nothing")
    assert done.code == 2
    assert "no baseline 'nothing'" in done.err
    assert "onnxruntime==VERSION" in done.err
    assert harness("check", str(chain)).code == 2
    done = harness("check", str(chain), "--baseline", str(chain / "base.onnx"), "--max-regression", "0.001")
    assert "below 0.01" in done.err
    done = harness("check", str(chain), "--baseline", str(chain / "base.onnx"), "--metric", "speed")
    assert done.code == 2
    assert "latency.median" in done.err
    done = harness("check", str(chain), "--baseline", str(chain / "base.onnx"), "--metric", "accuracy")
    assert "have no labels" in done.err
    done = harness(
        "check",
        str(chain),
        "--baseline",
        f"onnxruntime=={version('onnxruntime')}",
    )
    assert "like the baseline" in done.err
    assert harness("run", str(chain), "--rounds", "1").code == 0
    done = harness("check", str(study), "--baseline", "latest")
    assert done.code == 2
    assert "has none of the variants" in done.err
    assert list(Path("results").iterdir()) == [Path("results/chain")]


def test_a_limit_or_a_baseline_that_fits_nothing_is_refused(harness: Command, chain: Path) -> None:
    plain = (chain / "study.toml").read_text()
    words = ["check", str(chain), "--baseline", str(chain / "base.onnx")]
    for limit, said in (
        ('device = "locl"', "did you mean 'local'?"),
        ('variant = "fp23"', "no variant matches 'fp23'"),
        ('device = "@nix"', "'@nix'"),
    ):
        (chain / "study.toml").write_text(f'{plain}[[gate.limit]]\nmetric = "latency.median"\nmax_regression = 0.05\n{limit}\n')
        done = harness(*words)
        assert done.code == 2
        assert said in done.err
    # A limit for another board of the registry is none for this check, and no mistake.
    Path("devices.toml").write_text('[rpi4]\nhost = "rpi4.lab"\ntags = ["slow"]\n')
    for where in ("rpi4", "@slow"):
        (chain / "study.toml").write_text(f'{plain}[[gate.limit]]\nmetric = "size"\nmax_regression = 0.05\ndevice = "{where}"\n')
        assert harness(*words, "--rounds", "2").code == 4
    shutil.rmtree("results")
    (chain / "study.toml").write_text(plain)
    assert "5 % is 0.05" in harness(*words, "--max-regression", "5").err
    assert "did you mean 'latency.median'?" in harness(*words, "--metric", "latency.meden").err
    tiny_cnn(chain / "base.onnx", batch=1)
    done = harness(*words)
    assert done.code == 2
    assert "can't run on the same data" in done.err
    assert not Path("results").exists()


def test_baselines_that_are_none(harness: Command, chain: Path) -> None:
    assert harness("run", str(chain), "--rounds", "1").code == 0
    for name in ("latest", "old.onnx", "a/b"):
        assert harness("baseline", "save", "latest", name).code == 2
    assert harness("baseline", "save", "latest", "good").code == 0
    Path("baselines/broken.json").write_text("no JSON")
    done = harness("baseline", "list")
    assert done.code == 2
    assert "good" in done.out
    assert "baselines/broken.json: the file is not a baseline, or is damaged: Invalid JSON" in done.err
    (folder,) = Path("results/chain").iterdir()
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**run, "state": "interrupted"}))
    assert "only a complete run can be a baseline" in harness("baseline", "save", "latest", "other").err


def test_outputs_that_are_no_numbers_are_told(harness: Command, chain: Path) -> None:
    model = onnx.load(chain / "model.onnx")
    weight = onnx.numpy_helper.to_array(model.graph.initializer[0])
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight * np.nan, model.graph.initializer[0].name))
    onnx.save(model, chain / "model.onnx")
    done = harness("check", str(chain), "--baseline", str(chain / "base.onnx"), "--rounds", "3")
    assert done.code == 1
    assert " values of y are not finite in this variant (the baseline: none)" in done.out


def test_too_few_processes_are_inconclusive(harness: Command, chain: Path) -> None:
    done = harness("check", str(chain), "--baseline", str(chain / "base.onnx"), "--rounds", "2")
    assert done.code == 4
    assert "latency.median needs 3 launches, had 2" in done.out
    assert done.out.splitlines()[-2].startswith("INCONCLUSIVE")


def test_claims_of_a_run(harness: Command, study: Path) -> None:
    plain = (study / "study.toml").read_text()
    (study / "study.toml").write_text(plain + '[[claim]]\ntext = "fp16 works"\nloads = { method = "fp16" }\n')
    done = harness("run", str(study), "--rounds", "3", "--variant", "fp16")
    assert "[1] fp16 works: SUPPORTED" in done.out
    done = harness("claims")
    assert done.code == 0, done.err
    assert "local: supported; the variant loads and runs" in done.out
    (study / "study.toml").write_text(plain + '[[claim]]\ntext = "fp16 does not"\nfails = { method = "fp16" }\n')
    done = harness("claims", "latest", "--study", str(study), "--json")
    assert done.code == 1
    assert done.json["claims"][0]["verdict"] == "refuted"


def test_claims_without_any(harness: Command, chain: Path) -> None:
    assert harness("run", str(chain), "--rounds", "1").code == 0
    done = harness("claims", "latest")
    assert done.code == 2
    assert "has no [[claim]]" in done.err


def test_compare_goes_through_fp32_and_heeds_contexts(harness: Command, study: Path) -> None:
    for _ in range(2):
        assert harness("run", str(study), "--rounds", "3", "--variant", "fp16").code == 0
    first, second = (str(path.parent) for path in sorted(Path("results/tiny").glob("*/run.json")))
    done = harness("compare", first, second, "--json")
    assert done.code == 0, done.err
    (device,) = done.json["devices"]
    rows = {each["case"]: each["runs"][1] for each in device["cases"]}
    value, low, high = rows["fp16"]["change"]
    assert low < value < high
    assert rows["fp32"]["change"] is None
    assert harness("compare", first).code == 2
    # Another governor: a latency means something else.
    run = json.loads(Path(second, "run.json").read_text())
    run["devices"][0]["facts"]["governor"] = "powersave"
    Path(second, "run.json").write_text(json.dumps(run))
    done = harness("compare", first, second)
    assert done.code == 2
    assert "governor: not known → powersave" in done.err
    done = harness("compare", first, second, "--force")
    assert done.code == 0
    assert "FORCED" in done.out
