"""The runner as a process: its protocol is all that the controller sees of it."""

from __future__ import annotations

import ast
import hashlib
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

from harness.devices import facts as device_facts
from harness.measure import journal
from harness.places import AGENT, JOB, RUNNER
from tests.models import tiny_cnn

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLES = 4


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Path]:
    """Make a job's folder with one model and its inputs in the store."""

    def make(**changes: Any) -> Path:
        blobs = tmp_path / "store" / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        model = tiny_cnn(tmp_path / "model.onnx").read_bytes()
        np.savez(tmp_path / "inputs.npz", np.random.default_rng(0).normal(size=(SAMPLES, 1, 1, 8, 8)).astype(np.float32))
        inputs = (tmp_path / "inputs.npz").read_bytes()
        names = {}
        for key, data in (("model", model), ("inputs", inputs), ("bad", b"no model")):
            names[key] = hashlib.sha256(data).hexdigest()
            (blobs / names[key]).write_bytes(data)
        case = {
            "id": "c0",
            "model": names["model"],
            "inputs": names["inputs"],
            "names": ["x"],
            "threads": 1,
            "provider": "CPUExecutionProvider",
        }
        request: dict[str, Any] = {
            "protocol": 1,
            "cases": [case, {**case, "id": "c1", "model": names["bad"]}],
            "rounds": [["c0", "c1"], ["c1", "c0"]],
            "max_time": 60.0,
            "timeout": 30.0,
            "warmup": 0.01,
            "block": 0.02,
            "block_limit": 0.2,
            "iterations": 20,
            "samples": None,
            "counter": None,
            "count_rounds": 5,
            "count_spread": 0.001,
            "count_iterations": 3,
        }
        request |= changes
        folder = tmp_path / "store" / "jobs" / "j"
        (folder / "outputs").mkdir(parents=True)
        (folder / "request.json").write_text(json.dumps(request))
        return folder

    return make


def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the runner, or with ``job FOLDER`` a whole job."""
    command = [str(JOB), words[1], str(RUNNER)] if words[0] == "job" else [str(RUNNER), *words]
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=120, check=False, **options)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]


def test_probe_is_one_line_of_facts() -> None:
    done = run("probe")
    assert done.returncode == 0
    (said,) = [json.loads(line) for line in done.stdout.splitlines()]
    facts = device_facts.check(said, "local")
    assert facts.arch == os.uname().machine
    assert facts.onnxruntime.version
    assert "CPUExecutionProvider" in facts.onnxruntime.providers
    assert facts.memory_bytes is not None
    assert facts.memory_bytes > 2**28


def test_probe_reports_a_python_without_onnxruntime(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('no such wheel')\n")
    done = run("probe", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    said = json.loads(done.stdout)
    assert said["onnxruntime"] == {"error": "ImportError: no such wheel"}


def test_probe_survives_an_onnxruntime_that_dies_at_import(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n")
    done = run("probe", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert "SIGILL" in json.loads(done.stdout)["onnxruntime"]["error"]


def test_a_job_measures_every_round_and_records_a_model_that_does_not_load(job: Callable[..., Path]) -> None:
    folder = job()
    done = run("job", str(folder))
    assert (done.returncode, done.stdout) == (0, "")
    said = lines(folder)
    checked = [journal.check(line, "local") for line in said]
    blocks = [event for event in checked if isinstance(event, journal.Block)]
    assert [(block.case, block.round) for block in blocks] == [("c0", 0), ("c0", 1)]
    for block in blocks:
        assert len(block.ns) >= 20
        assert all(ns > 0 for ns in block.ns)
        assert sum(block.ns) <= block.wall_ns
        assert block.warmup >= 5
        assert block.peak_bytes is not None
        assert block.peak_bytes > 2**20
    failed = [event for event in checked if isinstance(event, journal.Failed)]
    assert [(event.case, event.round, event.kind) for event in failed] == [("c1", None, "load")]
    assert str(folder.parent.parent) not in failed[0].message
    assert isinstance(checked[-1], journal.End)
    assert checked[-1].reason == "rounds"
    assert (folder / "rc").read_text() == "0"


def test_outputs_come_sample_by_sample(job: Callable[..., Path]) -> None:
    folder = job(rounds=[])
    run("job", str(folder))
    (evaluated,) = [line for line in lines(folder) if line["event"] == "evaluated"]
    data = (folder / "outputs" / evaluated["outputs"]["name"]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == evaluated["outputs"]["sha256"]
    with np.load(folder / "outputs" / "c0.npz", allow_pickle=False) as arrays:
        assert len(arrays.files) == SAMPLES
        assert arrays["arr_0"].shape == (1, 3)


def test_each_block_is_a_fresh_process(job: Callable[..., Path], tmp_path: Path) -> None:
    # A module that onnxruntime's stand-in imports counts the processes that load it.
    (tmp_path / "sitecustomize.py").write_text(f"open({str(tmp_path / 'starts')!r}, 'a').write('x')\n")
    folder = job(cases=None, rounds=[["c0"], ["c0"], ["c0"]])
    request = json.loads((folder / "request.json").read_text())
    model, inputs = (hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("model.onnx", "inputs.npz"))
    request["cases"] = [
        {"id": "c0", "model": model, "inputs": inputs, "names": ["x"], "threads": 1, "provider": "CPUExecutionProvider"}
    ]
    (folder / "request.json").write_text(json.dumps(request))
    run("job", str(folder), env={**os.environ, "PYTHONPATH": str(tmp_path)})
    # The job, the probe and its child, one evaluation, three blocks.
    assert len((tmp_path / "starts").read_text()) == 7


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crash", "SIGSEGV"),
        ("import os; os._exit(7)", "crash", "no message"),
        ("import time; time.sleep(60)", "timeout", "no result after 2 s"),
        ("raise MemoryError('too large')", "memory", "too large"),
    ],
)
def test_how_a_worker_dies_is_the_cases_outcome(
    job: Callable[..., Path], tmp_path: Path, body: str, kind: str, words: str
) -> None:
    (tmp_path / "onnxruntime.py").write_text(
        f"__version__ = '0'\ndef get_available_providers(): return []\nclass SessionOptions: pass\ndef InferenceSession(*a, **k):\n    {body}\n"
    )
    folder = job(timeout=2.0)
    run("job", str(folder), env={**os.environ, "PYTHONPATH": str(tmp_path)})
    failed = [line for line in lines(folder) if line["event"] == "failed"]
    assert [line["kind"] for line in failed] == [kind, kind]
    assert words in failed[0]["message"]
    assert lines(folder)[-1] == {"event": "end", "reason": "rounds"}


def test_what_a_library_prints_does_not_reach_the_protocol(job: Callable[..., Path], tmp_path: Path) -> None:
    worker_code = (
        "import runpy, sys, os; sys.argv = [sys.argv[1], 'worker'];"
        "import onnxruntime; s = onnxruntime.InferenceSession\n"
        "def noisy(*a, **k):\n    os.write(1, b'noise\\n'); print('more noise'); return s(*a, **k)\n"
        "onnxruntime.InferenceSession = noisy\nrunpy.run_path(sys.argv[0], run_name='__main__')"
    )
    folder = job()
    blobs = tmp_path / "store" / "blobs" / "sha256"
    case = json.loads((folder / "request.json").read_text())["cases"][0]
    task = {
        "model": str(blobs / case["model"]),
        "inputs": str(blobs / case["inputs"]),
        "names": ["x"],
        "threads": 1,
        "provider": "CPUExecutionProvider",
        "outputs": None,
        "warmup": 0.01,
        "block": 0.01,
        "block_limit": 0.1,
        "iterations": 5,
        "samples": None,
        "counter": None,
    }
    done = subprocess.run(
        [sys.executable, "-c", worker_code, str(RUNNER)],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == ["block"]
    assert "noise" in done.stderr


def test_the_time_limit_ends_a_job(job: Callable[..., Path]) -> None:
    folder = job(max_time=0.0)
    run("job", str(folder))
    assert lines(folder)[-1] == {"event": "end", "reason": "max_time"}
    assert not [line for line in lines(folder) if line["event"] == "block"]


def test_sigterm_stops_a_job_and_keeps_what_it_measured(job: Callable[..., Path]) -> None:
    folder = job(rounds=[["c0"]] * 1000)
    process = subprocess.Popen([sys.executable, str(JOB), str(folder), str(RUNNER)])
    path = folder / "journal.jsonl"
    deadline = time.monotonic() + 60
    while not (path.exists() and '"block"' in path.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0
    said = lines(folder)
    assert said[-1] == {"event": "end", "reason": "stopped"}
    assert [line for line in said if line["event"] == "block"]


def test_cpus_pin_the_worker(job: Callable[..., Path], tmp_path: Path) -> None:
    cpu = max(os.sched_getaffinity(0))
    (tmp_path / "onnxruntime.py").write_text(
        "import os\n__version__ = '0'\ndef get_available_providers(): return []\nclass SessionOptions: pass\n"
        "def InferenceSession(*a, **k): raise RuntimeError(f'on {sorted(os.sched_getaffinity(0))}')\n"
    )
    folder = job(cpus=[cpu])
    run("job", str(folder), env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert [line["message"] for line in lines(folder) if line["event"] == "failed"] == [f"RuntimeError: on [{cpu}]"] * 2


def test_a_cpu_that_is_not_there_is_the_cases_outcome(job: Callable[..., Path]) -> None:
    folder = job(cpus=[4095])
    run("job", str(folder))
    failed = [line for line in lines(folder) if line["event"] == "failed"]
    assert len(failed) == 2


def test_a_wrong_command_is_one_line_of_the_protocol() -> None:
    done = run("nonsense")
    assert done.returncode == 2
    assert json.loads(done.stdout)["event"] == "error"


@pytest.mark.parametrize("path", [RUNNER, JOB, AGENT])
def test_the_device_side_is_python_3_9_and_small(path: Path) -> None:
    source = path.read_text()
    ast.parse(source, feature_version=(3, 9))
    assert len(source.splitlines()) <= 400
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(source))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [str(node.module)]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    others = imported - set(sys.stdlib_module_names)
    assert others == ({"numpy", "onnxruntime"} if path == RUNNER else set())


def test_an_emulated_clock_counts_in_processes_of_their_own_until_they_agree(job: Callable[..., Path]) -> None:
    folder = job(rounds=[], counter="icount", count_spread=1e9)
    run("job", str(folder))
    counted = [event for line in lines(folder) if isinstance(event := journal.check(line, "b"), journal.Counted)]
    assert [(event.case, event.round, event.counter) for event in counted] == [("c0", 0, "icount"), ("c0", 1, "icount")]
    assert all(len(event.instructions) == 3 and min(event.instructions) > 0 for event in counted)
    assert counted[0].cycles is None
    folder_again = [line for line in lines(folder) if line["event"] in {"block", "round"}]
    assert folder_again == []


def test_counting_ends_after_the_rounds_that_are_allowed(job: Callable[..., Path]) -> None:
    # Wall clock never agrees to one part in 10^12.
    folder = job(rounds=[], counter="icount", count_spread=1e-12, count_rounds=3)
    run("job", str(folder))
    assert [line["round"] for line in lines(folder) if line["event"] == "counted"] == [0, 1, 2]


def test_an_emulated_device_computes_only_the_first_samples(job: Callable[..., Path]) -> None:
    folder = job(rounds=[], samples=2)
    run("job", str(folder))
    with np.load(folder / "outputs" / "c0.npz", allow_pickle=False) as arrays:
        assert len(arrays.files) == 2


def test_the_kernels_counters_count_or_say_why_not(job: Callable[..., Path]) -> None:
    reason = device_facts.check(json.loads(run("probe").stdout), "local").uncountable
    folder = job(rounds=[], counter="perf")
    run("job", str(folder))
    said = [line for line in lines(folder) if line.get("case") == "c0" and line["event"] in {"counted", "failed"}]
    if reason is None:
        counts = [line["instructions"] for line in said]
        assert all(count > 1000 for counted in counts for count in counted)
        assert all(len(line["cycles"]) == 3 for line in said)
    else:
        assert [line["event"] for line in said] == ["failed"]
        assert "counter" in reason or "paranoid" in reason
