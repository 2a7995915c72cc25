"""Bad input: each a message that names the file or key, what is wrong and the next step, and exit code 2."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.models import tiny_cnn

if TYPE_CHECKING:
    from tests.cli.conftest import Command

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(100)


def refused(harness: Command, *words: str) -> str:
    done = harness(*words)
    assert done.code == 2, done
    assert done.out == ""
    assert "Traceback" not in done.err
    assert not Path("results").exists()
    return done.err


@pytest.mark.parametrize("command", [["run"], ["inspect"], ["quantize", "-o", "out"]])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        (b"", "empty"),
        (JPEG, "JPEG"),
        (b"name = 1\n" * 20, "model.onnx"),
        ("half", "truncated or damaged"),
    ],
)
def test_models_that_are_none(harness: Command, command: list[str], content: bytes | str | None, words: str) -> None:
    path = Path("model.onnx")
    if content == "half":
        tiny_cnn(path)
        path.write_bytes(path.read_bytes()[:-200])
    elif isinstance(content, bytes):
        path.write_bytes(content)
    said = refused(harness, *command, "model.onnx")
    assert "model.onnx" in said
    assert words in said


def test_a_model_that_is_quantized_already(harness: Command, study: Path) -> None:
    assert harness("quantize", str(study), "-o", "out", "--variant", "static-QDQ-U8S8").code == 0
    said = refused(harness, "run", "out/static-QDQ-U8S8.onnx", "--dim", "batch=1")
    assert "quantized already" in said
    assert "float model" in said
    shown = harness("inspect", "out/static-QDQ-U8S8.onnx")
    assert shown.code == 0
    assert "quantized already" in shown.out


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"image": np.zeros((4, 1, 8, 8), np.float32)}, ["image", "x"]),
        ({"x": np.zeros((4, 1, 8, 8), np.float64)}, ["float64", "float32"]),
        ({"x": np.zeros((4, 3, 8, 8), np.float32)}, ["3", "1, 8, 8"]),
        ({"x": np.full((4, 1, 8, 8), np.nan, np.float32)}, ["NaN"]),
    ],
)
def test_calibration_data_that_do_not_fit(harness: Command, study: Path, arrays: dict[str, np.ndarray], words: list[str]) -> None:
    np.savez(study / "calibration.npz", allow_pickle=False, **arrays)
    said = refused(harness, "run", str(study))
    assert "calibration.npz" in said
    for word in words:
        assert word in said


def test_labels_that_do_not_fit(harness: Command, study: Path) -> None:
    np.savez(study / "evaluation.npz", x=np.zeros((4, 1, 8, 8), np.float32), labels=np.zeros(3, np.int64))
    said = refused(harness, "run", str(study))
    assert "evaluation.npz" in said
    assert "3" in said
    assert "4" in said


def test_dimensions_without_a_value(harness: Command) -> None:
    tiny_cnn(Path("model.onnx"))
    said = refused(harness, "run", "model.onnx")
    assert "--dim batch=1" in said
    assert "[batch, 1, 8, 8]" in said


@pytest.mark.parametrize(
    ("dim", "words"),
    [
        ("bach=1", "did you mean 'batch'?"),
        ("batch=0", "every input is empty"),
        ("batch", "NAME=VALUE"),
        ("batch=x", "NAME=VALUE"),
    ],
)
def test_dimensions_that_are_wrong(harness: Command, dim: str, words: str) -> None:
    tiny_cnn(Path("model.onnx"))
    assert words in refused(harness, "run", "model.onnx", "--dim", dim)


def test_a_misspelt_key_in_the_study(harness: Command, study: Path) -> None:
    path = study / "study.toml"
    path.write_text(path.read_text() + "thread = [1]\n")
    number = len(path.read_text().splitlines())
    assert f"study.toml:{number}: unknown key 'measure.thread'; did you mean 'threads'?" in refused(harness, "run", str(study))


def test_a_misspelt_key_in_the_registry(harness: Command, study: Path) -> None:
    Path("devices.toml").write_text('[board]\nhost = "h"\nidentity = "k"\n')
    said = refused(harness, "run", str(study), "--device", "board")
    assert "devices.toml:3: unknown key 'board.identity'; did you mean 'identity_file'?" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--device", "lokal"], "no device 'lokal' in the registry; did you mean 'local'?"),
        (["--device", "@arm64"], "has the tag 'arm64'"),
        (["--variant", "static-QDQ-U8U9"], "did you mean 'static-QDQ-U8"),
        (["--dim", "batch=1"], "only for a bare model"),
        (["--max-time", "soon"], "--max-time: a duration"),
    ],
)
def test_options_that_match_nothing(harness: Command, study: Path, options: list[str], words: str) -> None:
    assert words in refused(harness, "run", str(study), *options)


def test_unknown_methods(harness: Command) -> None:
    tiny_cnn(Path("model.onnx"))
    assert "there is no method 'statik'; known: fp32, prepared, fp16" in refused(
        harness, "run", "model.onnx", "--dim", "batch=1", "--variants", "statik"
    )


def test_results_that_can_not_be_written(harness: Command, study: Path) -> None:
    Path("file").write_text("")
    said = refused(harness, "run", str(study), "--results", "file")
    assert "the results folder can't be created" in said
    assert "--results DIR" in said


def test_a_model_that_does_not_run_with_the_data(harness: Command) -> None:
    from onnx import helper, save

    from tests.models import make_model

    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"], "reshape")]
    save(make_model(nodes, {"x": ["batch", 4]}, {"y": [3, 3]}, {"shape": np.array([3, 3], np.int64)}), "model.onnx")
    said = refused(harness, "run", "model.onnx", "--dim", "batch=1", "--calibration", "random")
    assert "model.onnx: onnxruntime" in said
    assert "can't run this model with inputs from random" in said


def test_errors_for_programs(harness: Command) -> None:
    done = harness("run", "none.onnx", "--json")
    assert done.code == 2
    assert done.json["exit"] == 2
    assert "no such file" in done.json["error"]


def test_wrong_usage_is_exit_code_2(harness: Command) -> None:
    assert harness("run", "--no-such-option").code == 2
    assert harness("nonsense").code == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [(["show", "latest"], "has no runs"), (["show", "latest", "--format", "marrkdown"], "no format 'marrkdown'")],
)
def test_show_without_a_run_or_with_an_unknown_format(harness: Command, words: list[str], said: str) -> None:
    assert said in refused(harness, *words)
