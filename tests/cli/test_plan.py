"""harness quantize --plan and harness inspect, as a user calls them."""

from __future__ import annotations

import io
import socket
from pathlib import Path

import pytest
from rich.console import Console

from harness.cli import planned
from harness.quantize.matrix import plan
from harness.quantize.model.model import read_model
from harness.quantize.planning.planner import plan_build
from harness.quantize.platform import platform
from harness.study.study import load
from tests.cli.conftest import Command
from tests.models import tiny_cnn

STUDY = """
name = "tiny"
[model]
path = "cnn.onnx"
dims = { batch = 1 }
calibration = "random"
[variants]
methods = ["dynamic", "static"]
activations = ["QInt8", "QUInt8"]
weights = ["QInt8", "QUInt8"]
calibrations = ["MinMax", "Entropy"]
"""


@pytest.fixture
def study() -> str:
    tiny_cnn(Path("cnn.onnx"))
    Path("study.toml").write_text(STUDY)
    return "study.toml"


def test_a_plan_in_words(study: str, harness: Command) -> None:
    done = harness("quantize", study, "--plan", "--platform", "aarch64,asimd,1.17.3")
    assert (done.code, done.err) == (0, "")
    headings = (
        *("to build (9)", "duplicates of another variant, built once (6)", "impossible (4)"),
        *("on aarch64,asimd,1.17.3", "estimated cost"),
    )
    for heading in headings:
        assert f"\n{heading}\n" in done.out
    assert "refused: before 1.24.1 onnxruntime has no ConvInteger for QInt8 weights" in done.out
    # Entropy is not calibrated: its variants are those of MinMax.
    assert "calibration: one inference for each of 16 samples" in done.out
    assert "- verifying the prepared model and the variants on one sample: " in done.out
    assert sorted(path.name for path in Path().iterdir()) == ["cnn.onnx", "study.toml"]


def test_a_plan_fits_eighty_columns(study: str) -> None:
    asked = load(Path(study))
    told = plan_build(asked, plan(asked), read_model(asked.model.path), [platform("x86_64,avx2,1.23.2")])
    out = io.StringIO()
    planned.show(told, Console(file=out, width=80, force_terminal=False))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("static-QDQ-U8S8-Entropy" in line for line in lines) == 1


def test_a_plan_for_programs(study: str, harness: Command) -> None:
    told = harness("quantize", study, "--plan", "--json", "--variant", "static-QDQ-*", "--platform", "x86_64,avx2").json
    states = {each["name"]: each["state"] for each in told["variants"]}
    assert states["static-QDQ-S8U8"] == "impossible"
    assert states["static-QDQ-U8S8-Entropy"] == "same"
    assert "dynamic-S8" not in states
    assert told["platforms"] == {"x86_64,avx2": "x86_64, avx2, onnxruntime of an unknown version"}
    assert told["unreached"] == {}


def test_the_study_s_devices_are_asked(study: str, harness: Command) -> None:
    done = harness("quantize", study, "--plan", "--json")
    assert (done.code, set(done.json["platforms"])) == (0, {"local"})


def test_a_device_that_can_t_be_reached(study: str, harness: Command) -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        Path("devices.toml").write_text(f'[gone]\nhost = "127.0.0.1"\nport = {port}\nconnect_time = "2s"\n')
        done = harness("quantize", study, "--plan", "--device", "gone")
    assert done.code == 3
    assert "to build (9)" in done.out
    assert "gone: could not be asked, so no rule was checked for it:" in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--plan", "--platform", "1.23.2"], "is not a platform: write ARCH,FEATURE"),
        (["--plan", "--platform", "arm64,1.x"], "is not a version of onnxruntime"),
        (["--plan", "--device", "nobody"], "no device 'nobody'"),
        (["--plan", "--variant", "nothing*"], "no variant matches"),
        ([], "give a folder for the variants: -o DIR; or --plan"),
        (["-o", "out", "--platform", "arm64"], "need --plan"),
    ],
)
def test_wrong_usage(study: str, harness: Command, words: list[str], said: str) -> None:
    done = harness("quantize", study, *words)
    assert done.code == 2
    assert said in done.err


def test_inspect_ends_with_the_plan(study: str, harness: Command) -> None:
    assert study
    done = harness("inspect", "cnn.onnx", "--platform", "aarch64,asimd,1.17.3")
    assert done.code == 0
    assert "impossible (2)" in done.out
    assert "refused: before 1.24.1" in done.out
    assert "dimensions without a value count as 1; to set them: harness quantize --plan --dim batch=…" in done.out
    told = harness("inspect", "cnn.onnx", "--json").json
    assert (told["plan"]["study"], told["unreached"]) == ("cnn", {})
