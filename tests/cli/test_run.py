"""The main job, end to end, on this machine."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from harness.workflow import results
from tests.models import tiny_cnn, tiny_mlp

if TYPE_CHECKING:
    from tests.cli.conftest import Command

FILES = {
    "run.json",
    "journal.jsonl",
    "samples.parquet",
    "table.csv",
    "table.md",
    "junit.xml",
    "benchmark.json",
    "report",
    "variants",
}


def rows(content: Any) -> dict[str, dict[str, Any]]:
    (device,) = content["devices"]
    return {row["case"]: row for row in device["rows"]}


def test_a_study_from_model_to_table(harness: Command, study: Path) -> None:
    done = harness("run", str(study), "--json")
    assert done.code == 0, done.err
    found = rows(done.json)
    assert next(iter(found)) == "fp32"
    assert found["static-QDQ-S8U8"]["state"] == "impossible"
    assert "QInt8" in found["static-QDQ-S8U8"]["reason"]
    measured = {name: row for name, row in found.items() if row["state"] == "measured"}
    assert len(measured) == 10
    for row in measured.values():
        assert 0 < row["median_ms_low"] <= row["median_ms"] <= row["median_ms_high"]
        assert row["median_ms"] <= row["p90_ms"] <= row["p99_ms"]
        assert row["speedup_low"] <= row["speedup"] <= row["speedup_high"]
        assert 0 <= row["accuracy"] <= 1
        assert row["mse"] is not None
        assert row["peak_bytes"] > 2**20
    assert found["fp32"]["identical"]
    assert found["fp32"]["speedup"] == 1
    assert found["fp32"]["accuracy_drop"] == 0
    assert 20 < found["static-QDQ-U8S8"]["sqnr_db"] < 60
    assert 0.4 < found["fp16"]["size_ratio"] < 1.5
    (made,) = Path("results/tiny").iterdir()
    assert {path.name for path in made.iterdir()} == FILES
    assert json.loads((made / "run.json").read_text())["state"] == "complete"
    with (made / "table.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 12


def test_progress_goes_to_stderr_and_tables_to_stdout(harness: Command, study: Path) -> None:
    done = harness("run", str(study), "--variant", "fp16")
    assert "round 3 of at most 3" in done.err
    assert "round 3 of 3" not in done.out
    assert "speed-up" in done.out
    assert "results/tiny" in done.out


def test_show_gives_the_same_tables_in_every_format(harness: Command, study: Path) -> None:
    ran = harness("run", str(study), "--variant", "fp16", "--json")
    assert harness("show", "latest", "--json").json == ran.json
    assert harness("show", "latest").out.strip() in harness("show", "tiny/2").out
    for name, begin in {"md": "# tiny", "csv": "device,case", "html": "<!", "junit": "<?xml", "pytest-benchmark": "{"}.items():
        shown = harness("show", "latest", "--format", name)
        assert shown.code == 0
        assert shown.out.lower().startswith(begin.lower()), name
    assert rows(harness("show", "latest", "--json", "--variant", "fp32").json).keys() == {"fp32"}
    assert harness("show", "latest", "--variant", "fp23").code == 2
    assert harness("show", "latest", "--device", "none").code == 2


@pytest.mark.long
def test_a_bare_model_with_random_data_warns(harness: Command) -> None:
    tiny_mlp(Path("mlp.onnx"))
    words = ["run", "mlp.onnx", "--dim", "batch=2", "--variants", "fp32,dynamic", "--rounds", "3", "--json"]
    done = harness(*words)
    assert done.code == 0, done.err
    assert any("random" in warning for warning in done.json["warnings"])
    assert set(rows(done.json)) == {"fp32", "dynamic-S8", "dynamic-U8"}
    assert rows(done.json)["fp32"]["accuracy"] is None


@pytest.mark.long
def test_several_values_of_a_dimension_are_cases_with_their_own_reference(harness: Command, study: Path) -> None:
    path = study / "study.toml"
    path.write_text(path.read_text().replace("batch = 1", "batch = [1, 4]").replace("rounds = 3", "threads = [1, 2]\nrounds = 3"))
    done = harness("run", str(study), "--variant", "fp16", "--json")
    assert done.code == 0, done.err
    found = rows(done.json)
    assert len(found) == 8
    assert found["fp32 threads=2 batch=4"]["speedup"] == 1
    assert found["fp16 threads=1 batch=4"]["speedup"] is not None
    assert {row["accuracy"] for name, row in found.items() if name.startswith("fp32")} == {
        found["fp32 threads=1 batch=1"]["accuracy"]
    }


def test_a_variant_that_can_not_be_made_is_a_row_and_exit_3(harness: Command, study: Path) -> None:
    path = study / "study.toml"
    path.write_text(path.read_text() + '[[variant]]\nname = "lost"\nmethod = "static"\nexclude_nodes = ["/nowhere/*"]\n')
    done = harness("run", str(study), "--variant", "lost,fp16", "--json")
    assert done.code == 3
    found = rows(done.json)
    assert found["lost"]["state"] == "unmade"
    assert "/nowhere/*" in found["lost"]["reason"]
    assert found["fp16"]["state"] == "measured"


def test_two_rounds_give_no_interval(harness: Command, study: Path) -> None:
    found = rows(harness("run", str(study), "--variant", "fp16", "--rounds", "2", "--json").json)
    assert found["fp16"]["median_ms"] is not None
    assert found["fp16"]["median_ms_low"] is None
    assert "[?]" in harness("show", "latest").out


def test_no_time_is_exit_4_and_nothing_is_invented(harness: Command, study: Path) -> None:
    done = harness("run", str(study), "--variant", "fp16", "--max-time", "1ms", "--json")
    assert done.code == 4
    assert {row["state"] for row in rows(done.json).values()} == {"unmeasured"}
    assert all(row["median_ms"] is None for row in rows(done.json).values())


@pytest.mark.faults
@pytest.mark.slow
def test_when_the_time_is_up_everything_says_so_and_resume_measures_on(harness: Command, study: Path) -> None:
    words = ["run", str(study), "--variant", "fp16", "--rounds", "100000"]
    assert harness(*words, "--max-time", "10s").code == 4
    shown = harness("show", "latest")
    assert "! Stopped after 10s (max_time), " in shown.out
    (folder,) = Path("results").glob("tiny/*")
    assert f"To go on: harness run --resume tiny/{folder.name}" in shown.out
    assert "out of time" in (folder / "report" / "index.html").read_text()
    before = (folder / "journal.jsonl").read_text().count('"event":"duet"')
    done = harness("run", "--resume", "latest", "--max-time", "20s", "--json")
    assert done.code == 4, done.err
    assert (done.json["state"], done.json["exit"]) == ("out of time", 4)
    (device,) = done.json["devices"]
    assert device["trouble"] is None
    assert device["shortfall"]["sentence"].startswith("Stopped after 20s (max_time), ")
    rounds = [
        json.loads(line)["round"] for line in (folder / "journal.jsonl").read_text().splitlines() if '"event":"duet"' in line
    ]
    assert len(rounds) > before
    assert len(set(rounds)) == len(rounds)


def test_an_emulated_device_has_no_latency(harness: Command, study: Path) -> None:
    Path("devices.toml").write_text('[local]\nemulated = "icount"\n')
    done = harness("run", str(study), "--variant", "fp16", "--json")
    assert done.code == 0
    assert all(row["median_ms"] is None and row["speedup"] is None for row in rows(done.json).values())
    assert rows(done.json)["fp16"]["mse"] is not None
    assert "times are not measured: the device is emulated (icount)" in harness("show", "latest").out


def test_a_local_python_without_onnxruntime_is_a_failed_device(harness: Command, study: Path) -> None:
    bare = Path("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    Path("devices.toml").write_text(f'[local]\npython = "{bare.absolute()}/bin/python"\n')
    done = harness("run", str(study), "--variant", "fp16", "--json")
    assert done.code == 3
    assert "can't import onnxruntime" in done.json["devices"][0]["trouble"]
    assert 'python = "…"' in done.json["devices"][0]["trouble"]


def spawn(*words: str) -> subprocess.Popen[str]:
    # Ctrl-C must reach it even where the tests themselves were started in the background, with SIGINT ignored.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from harness.cli import main; main()"
    return subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(*texts: str) -> Path:
    """Wait until a run's journal has a line with these texts; gives the run's folder."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for path in Path("results").glob("*/*/journal.jsonl"):
            if any(all(text in line for text in texts) for line in path.read_text().splitlines()):
                return path.parent
        time.sleep(0.05)
    raise AssertionError(texts)


def jobs() -> list[Path]:
    return list((Path(os.environ["QUANT_HARNESS_HOME"]) / "jobs").iterdir())


@pytest.mark.faults
def test_ctrl_c_keeps_what_was_measured_and_stops_the_runner(study: Path) -> None:
    process = spawn("run", str(study), "--variant", "fp16", "--rounds", "500", "--json")
    made = wait_for('"event":"round"')
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert rows(json.loads(out))["fp16"]["state"] == "measured"
    assert json.loads((made / "run.json").read_text())["state"] == "interrupted"
    (job,) = jobs()
    assert (job / "rc").read_text() == "0"
    assert '"reason": "stopped"' in (job / "journal.jsonl").read_text()


@pytest.mark.faults
def test_kill_9_of_the_controller_loses_nothing(harness: Command, study: Path) -> None:
    process = spawn("run", str(study), "--variant", "fp16", "--rounds", "500")
    made = wait_for('"event":"round"')
    process.kill()
    process.communicate()
    shown = harness("show", str(made), "--json")
    assert shown.code == 0
    assert rows(shown.json)["fp16"]["median_ms"] > 0
    assert "was killed" in shown.err
    (job,) = jobs()
    os.kill(int((job / "pid").read_text()), signal.SIGTERM)


@pytest.mark.faults
def test_kill_9_of_the_runner_is_a_failed_device_and_exit_3(study: Path) -> None:
    process = spawn("run", str(study), "--variant", "fp16", "--rounds", "500", "--json")
    made = wait_for('"event":"round"')
    (job,) = jobs()
    os.killpg(int((job / "pid").read_text()), signal.SIGKILL)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 3
    content = json.loads(out)
    assert "the runner died" in content["devices"][0]["trouble"]
    assert rows(content)["fp16"]["median_ms"] > 0
    assert (made / "table.md").exists()


def test_a_full_results_disk_is_named(harness: Command, study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, _data: bytes, **_sync: bool) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(results, "write_bytes", full)
    done = harness("run", str(study), "--variant", "fp16")
    assert done.code == 2
    assert "No space left on device" in done.err


def test_quantize_makes_the_files_and_measures_nothing(harness: Command, study: Path) -> None:
    done = harness("quantize", str(study), "-o", "out", "--json")
    assert done.code == 0
    made = [found for found in done.json["variants"] if found["state"] == "made"]
    assert {path.stem for path in Path("out").glob("*.onnx")} == {found["recipe"]["name"] for found in made}
    assert not Path("results").exists()


def test_inspect_lists_nodes_and_what_recipes_do(harness: Command) -> None:
    tiny_cnn(Path("model.onnx"))
    facts = harness("inspect", "model.onnx", "--json").json
    assert [node["op_type"] for node in facts["nodes"]] == ["Conv", "Relu", "Conv", "Add", "GlobalAveragePool", "Flatten", "Gemm"]
    assert facts["nodes"][6]["name"] == "head/gemm"
    assert facts["op_histogram"]["Conv"] == 2
    shown = harness("inspect", "model.onnx").out
    assert "head/gemm" in shown
    assert "--dim batch=…" in shown
    assert "static-QDQ-S8U8" in shown


@pytest.mark.long
def test_a_model_whose_outputs_change_their_shape_is_measured(harness: Command) -> None:
    from onnx import TensorProto, helper, save

    node = helper.make_node("NonZero", ["x"], ["y"], "nonzero")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])
    y = helper.make_tensor_value_info("y", TensorProto.INT64, [2, "found"])
    graph = helper.make_graph([node], "g", [x], [y])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "nonzero.onnx")
    np.savez("data.npz", x=np.array([[1, 0, 0, 1], [1, 1, 1, 1], [0, 0, 1, 0]], np.float32))
    done = harness(
        "run", "nonzero.onnx", "--dim", "batch=1", "--calibration", "data.npz", "--variants", "fp32", "--rounds", "3", "--json"
    )
    assert done.code == 0, done.err
    assert rows(done.json)["fp32"]["identical"]


def test_inputs_without_axes_reach_the_model_as_arrays(harness: Command) -> None:
    from onnx import TensorProto, helper, save

    node = helper.make_node("Mul", ["x", "scale"], ["y"], "scaled")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    scale = helper.make_tensor_value_info("scale", TensorProto.FLOAT, [])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph([node], "g", [x, scale], [y])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "scaled.onnx")
    np.savez("data.npz", x=np.ones((3, 4), np.float32), scale=np.array(2, np.float32))
    done = harness("run", "scaled.onnx", "--calibration", "data.npz", "--variants", "fp32", "--rounds", "1", "--json")
    assert done.code == 0, done.err
    assert rows(done.json)["fp32"]["identical"]


@pytest.mark.long
def test_the_way_of_measuring_is_the_studys(harness: Command, study: Path) -> None:
    path = study / "study.toml"
    more = 'duet = "calls"\nthroughput = [2]\noptimization = ["all", "disabled"]\nrounds = 3'
    claim = '[[claim]]\ntext = "disabled is slower"\nfaster = { method = "fp16" }\nthan = { method = "dynamic" }\n'
    path.write_text(path.read_text().replace("rounds = 3", more) + claim)
    done = harness("run", str(study), "--variant", "fp16", "--json")
    assert done.code == 0, done.err
    (device,) = done.json["devices"]
    assert any("call by call" in line for line in device["remarks"])
    found = rows(done.json)
    assert set(found) == {f"{name} optimization={level}" for name in ("fp32", "fp16") for level in ("all", "disabled")}
    for row in found.values():
        (crowd,) = row["throughput_per_second"]
        assert crowd["sessions"] == 2
        assert crowd["per_second_low"] < crowd["per_second"] < crowd["per_second_high"]
        assert row["peak_bytes"] > 2**24
        assert row["load_ms"] > row["first_ms"] > 0
    assert found["fp32 optimization=all"]["graph"] != found["fp32 optimization=disabled"]["graph"]
    shown = harness("show", "latest").out
    assert "inf/s ×2" in shown
    ops = harness("show", "latest", "--ops")
    assert ops.code == 0
    assert "Conv" in ops.out
    assert {each["case"] for each in harness("show", "latest", "--ops", "--json").json} == set(found)


def test_a_claims_pair_is_measured_side_by_side(harness: Command, study: Path) -> None:
    path = study / "study.toml"
    claim = '[[claim]]\ntext = "U8 beats S8"\nfaster = { weight = "QUInt8" }\nthan = { weight = "QInt8" }\n'
    path.write_text(path.read_text() + claim)
    done = harness("run", str(study), "--variant", "dynamic-*", "--json")
    (pair,) = done.json["devices"][0]["pairs"]
    assert (pair["first"], pair["second"]) == ("dynamic-S8", "dynamic-U8")
    assert pair["ratio_low"] < pair["ratio"] < pair["ratio_high"]
    assert "dynamic-U8 against dynamic-S8: " in harness("show", "latest").out


@pytest.mark.faults
def test_a_device_that_is_busy_is_exit_75_and_can_be_released(harness: Command, study: Path) -> None:
    words = ["run", str(study), "--variant", "fp16", "--json"]
    path = study / "study.toml"
    path.write_text(path.read_text().replace("rounds = 3", "rounds = 100000"))
    process = spawn(*words)
    try:
        wait_for('"event":"round"')
        done = harness(*words)
        assert done.code == 75
        (device,) = done.json["devices"]
        assert f"process {process.pid}" in device["trouble"]
        assert "harness device release local" in device["trouble"]
        assert harness("device", "release", "local").out == "local: the job was ended\n"
        process.communicate(timeout=60)
        assert harness("device", "release", "local", "--json").json == {"device": "local", "ended": False}
    finally:
        process.kill()
        process.communicate()


@pytest.mark.faults
def test_sigterm_ends_a_run_as_ctrl_c_does(study: Path) -> None:
    path = study / "study.toml"
    path.write_text(path.read_text().replace("rounds = 3", "rounds = 100000"))
    process = spawn("run", str(study), "--variant", "fp16", "--json")
    wait_for('"event":"round"')
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130
    (made,) = Path("results/tiny").iterdir()
    assert json.loads((made / "run.json").read_text())["state"] == "interrupted"


@pytest.mark.faults
def test_a_signal_that_comes_twice_ends_a_run_as_one_does(study: Path) -> None:
    """As a server that aborts a build sends it: to every process of the step, whose shell passes it on."""
    process = spawn("run", str(study), "--variant", "fp32", "--rounds", "500")
    made = wait_for('"event":"round"')
    process.send_signal(signal.SIGTERM)
    time.sleep(0.0002)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert json.loads((made / "run.json").read_text())["state"] == "interrupted"


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_the_caller_shielded_off_ends_nothing(study: Path, number: signal.Signals) -> None:
    """As nohup does with SIGHUP, and a shell's '&' with SIGINT."""
    code = "import signal; signal.signal({0}, signal.SIG_IGN); from harness.cli import main; main()"
    words = ("run", str(study), "--variant", "fp32", "--rounds", "8")
    process = subprocess.Popen(
        [sys.executable, "-c", code.format(int(number)), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for('"event":"round"')
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err


def test_a_metric_that_fails_ends_the_run_before_anything_is_made(harness: Command, study: Path) -> None:
    (study / "own.py").write_text("def rate(outputs, reference, labels):\n    return outputs[0]['z']\n")
    file = study / "study.toml"
    file.write_text(file.read_text().replace("[measure]", 'metric = "own.py:rate"\n[measure]'))
    found = harness("run", str(study), "--results", "out")
    assert found.code == 2
    assert "own.py:rate: raised KeyError: 'z'" in found.err
    assert not Path("out").exists()
