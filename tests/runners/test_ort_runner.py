"""The runner as a process: its protocol is all that the controller sees of it."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import pwd
import runpy
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnxruntime.transformers.float16 import convert_float_to_float16

from harness.devices import facts as device_facts
from harness.devices import program
from harness.measure import journal
from harness.measure.events import Counted, End, Evaluated, Event, Failed, Governor, SeparateProcesses, Throughput
from harness.measure.launch import Launch
from harness.paths import RUNNERS
from harness.quantize.methods import ort_format
from tests.models import tiny_cnn

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLES = 4
SOURCES = sorted(RUNNERS.rglob("*.py"))


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Path]:
    """Make a job's folder with two models and their inputs in the store; the second case does not load unless it is said to."""

    def make(*, broken: bool = True, **changes: Any) -> Path:
        blobs = tmp_path / "store" / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        model = tiny_cnn(tmp_path / "model.onnx").read_bytes()
        np.savez(tmp_path / "inputs.npz", np.random.default_rng(0).normal(size=(SAMPLES, 1, 1, 8, 8)).astype(np.float32))
        inputs = (tmp_path / "inputs.npz").read_bytes()
        names = {}
        files = {
            "model": model,
            "inputs": inputs,
            "bad": b"no model",
            "prober": program.prober().read_bytes(),
        }
        for key, data in files.items():
            names[key] = hashlib.sha256(data).hexdigest()
            (blobs / names[key]).write_bytes(data)
        case = {
            "id": "c0", "model": names["model"], "inputs": names["inputs"], "names": ["x"], "threads": 1,
            "provider": "CPUExecutionProvider", "optimization": "all",
        }  # fmt: skip
        request: dict[str, Any] = {
            "protocol": 4, "prober": names["prober"], "who": {}, "wait": 0,
            "cases": [case, {**case, "id": "c1", **({"model": names["bad"]} if broken else {})}],
            "units": [["c0", "c1"]], "seed": 5,
            "rounds": 2, "least_rounds": 2, "precision": 1e-9, "t": [12.7, 4.3, 3.2], "turns": False, "rebuilds": 2, "pairs": 2,
            "block": 0.002, "warmup": 0.05, "launch": 10.0, "max_time": 600.0, "longest": 900.0, "timeout": 120.0, "samples": None,
            "counter": None, "count_rounds": 5, "count_spread": 0.001, "count_iterations": 3,
            "throughput": [], "throughput_rounds": 2, "throughput_seconds": 0.05,
        }  # fmt: skip
        request |= changes
        folder = tmp_path / "store" / "jobs" / "j"
        (folder / "outputs").mkdir(parents=True)
        (folder / "request.json").write_text(json.dumps(request))
        return folder

    return make


def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the prober, the runner with these words, or with ``job FOLDER`` a whole job."""
    programs = {
        "job": [str(program.job()), *words[1:], str(program.runner())],
        "probe": [str(program.prober()), str(program.runner())],
    }
    command = programs.get(words[0], [str(program.runner()), *words])
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=120, check=False, **options)


def events(folder: Path) -> list[Event]:
    """The journal, checked as the controller checks it."""
    return [journal.check(line, "local") for line in lines(folder)]


def duets(folder: Path) -> list[Launch]:
    return [event for event in events(folder) if isinstance(event, Launch)]


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


def test_outputs_that_differ_between_two_runs_are_said(job: Callable[..., Path]) -> None:
    folder = job(broken=False, rounds=0)
    blobs = folder.parent.parent / "blobs" / "sha256"
    request = json.loads((folder / "request.json").read_text())
    model = onnx.load(blobs / request["cases"][1]["model"])
    # The model's own output comes first, and stays the same.
    model.graph.node.append(onnx.helper.make_node("RandomNormal", [], ["noise"], shape=[3]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("noise", onnx.TensorProto.FLOAT, [3]))
    data = model.SerializeToString()
    request["cases"][1]["model"] = hashlib.sha256(data).hexdigest()
    (blobs / request["cases"][1]["model"]).write_bytes(data)
    (folder / "request.json").write_text(json.dumps(request))
    assert run("job", str(folder)).returncode == 0
    found = {event.case: event.differing for event in events(folder) if isinstance(event, Evaluated)}
    assert found == {"c0": [], "c1": [1]}


def test_a_model_whose_outputs_change_their_shape_is_measured(job: Callable[..., Path]) -> None:
    folder = job(broken=False, rounds=1)
    blobs = folder.parent.parent / "blobs" / "sha256"
    request = json.loads((folder / "request.json").read_text())
    nodes = [onnx.helper.make_node("RandomNormalLike", ["x"], ["n"]), onnx.helper.make_node("Relu", ["n"], ["r"])]
    nodes.append(onnx.helper.make_node("NonZero", ["r"], ["found"]))
    model = onnx.load(blobs / request["cases"][1]["model"])
    model.graph.node.extend(nodes)
    model.graph.output.append(onnx.helper.make_tensor_value_info("found", onnx.TensorProto.INT64, [4, "count"]))
    data = model.SerializeToString()
    request["cases"][1]["model"] = hashlib.sha256(data).hexdigest()
    (blobs / request["cases"][1]["model"]).write_bytes(data)
    (folder / "request.json").write_text(json.dumps(request))
    assert run("job", str(folder)).returncode == 0
    assert not [event for event in events(folder) if isinstance(event, Failed)]
    assert [duet.cases for duet in duets(folder)] == [("c0", "c1")]


def test_a_job_measures_pairs_side_by_side(job: Callable[..., Path]) -> None:
    folder = job(broken=False)
    done = run("job", str(folder))
    assert (done.returncode, done.stdout) == (0, "")
    found = duets(folder)
    assert [(duet.cases, duet.round, duet.separate_processes) for duet in found] == [
        (("c0", "c1"), 0, None),
        (("c0", "c1"), 1, None),
    ]
    for rebuild in [rebuild for duet in found for rebuild in duet.rebuilds]:
        assert min(rebuild.load_ns + rebuild.first_ns) > 0
        assert min(rebuild.warmup) >= 3
        for pair in rebuild.pairs:
            for median, samples in zip(pair.medians, pair.samples, strict=True):
                assert median == pytest.approx(statistics.median(samples.nanoseconds), rel=2e-4, abs=1)
                assert samples.count >= 3
            assert sum(sum(samples.nanoseconds) for samples in pair.samples) <= sum(pair.wall_ns)
            assert pair.before.load is not None
    assert [len(duet.rebuilds) for duet in found] == [2, 2]
    assert all(2 <= len(rebuild.pairs) <= 4 for duet in found for rebuild in duet.rebuilds)
    assert {tuple(pair.order) for duet in found for rebuild in duet.rebuilds for pair in rebuild.pairs} == {(0, 1), (1, 0)}
    assert events(folder)[-1] == End(device="local", reason="rounds")
    assert (folder / "rc").read_text() == "0"


def test_a_case_that_does_not_load_leaves_its_partner_alone(job: Callable[..., Path]) -> None:
    folder = job()
    run("job", str(folder))
    failed = [event for event in events(folder) if isinstance(event, Failed)]
    assert [(event.case, event.round, event.kind) for event in failed] == [("c1", None, "load")]
    assert str(folder.parent.parent) not in failed[0].message
    assert [(duet.cases, duet.round) for duet in duets(folder)] == [(("c0",), 0), (("c0",), 1)]
    assert all(len(pair.medians) == 1 for duet in duets(folder) for rebuild in duet.rebuilds for pair in rebuild.pairs)


def test_a_pair_that_is_known_well_enough_is_not_visited_again(job: Callable[..., Path]) -> None:
    folder = job(broken=False, rounds=20, least_rounds=4, precision=100.0)
    run("job", str(folder))
    assert len(duets(folder)) == 4


def test_call_by_call_takes_turns(job: Callable[..., Path]) -> None:
    folder = job(broken=False, turns=True)
    run("job", str(folder))
    for pair in [pair for duet in duets(folder) for rebuild in duet.rebuilds for pair in rebuild.pairs]:
        assert pair.samples[0].count == pair.samples[1].count
        # One bill for both.
        assert len(pair.wall_ns) == len(pair.cpu_ns) == 1


def test_a_pair_too_large_for_memory_is_measured_in_processes_that_alternate(job: Callable[..., Path], tmp_path: Path) -> None:
    # Memory that is free, as far as this job can tell: none.
    blind = tmp_path / "job.py"
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable:    1000 kB\n")
    blind.write_text(program.job().read_text().replace("/proc/meminfo", str(meminfo)))
    folder = job(broken=False, rounds=3)
    subprocess.run([sys.executable, str(blind), str(folder), str(program.runner())], check=True, timeout=120)
    (apart,) = [event for event in events(folder) if isinstance(event, SeparateProcesses)]
    assert apart.cases == ("c0", "c1")
    assert apart.reason.endswith("MB, and 1 MB are free")
    found = [(duet.round, duet.cases[0], duet.separate_processes) for duet in duets(folder)]
    assert sorted(found) == [(number, name, ("c0", "c1")) for number in range(3) for name in ("c0", "c1")]


def test_a_pair_whose_process_dies_is_kept_apart(job: Callable[..., Path], tmp_path: Path) -> None:
    # A process that makes two sessions at once is killed, as the kernel does when memory ends; alone each of them lives.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys, onnxruntime as o\nmake, made = o.InferenceSession, []\n"
        "def session(*a, **k):\n"
        "    made.append(1)\n"
        "    if len(made) == 2 and 'worker' in sys.argv and not k.get('sess_options') and not a[1].enable_profiling:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return make(*a, **k)\n"
        "o.InferenceSession = session\n"
    )
    folder = job(broken=False, rebuilds=1)
    run("job", str(folder), env={**os.environ, "PYTHONPATH": str(tmp_path)})
    (apart,) = [event for event in events(folder) if isinstance(event, SeparateProcesses)]
    assert "crash: killed by SIGKILL" in apart.reason
    assert sorted((duet.round, duet.cases) for duet in duets(folder)) == [
        (number, (name,)) for number in (0, 1) for name in ("c0", "c1")
    ]
    assert not [event for event in events(folder) if isinstance(event, Failed)]


def test_several_sessions_at_once_have_a_throughput(job: Callable[..., Path]) -> None:
    folder = job(units=[], throughput=[1, 3])
    run("job", str(folder))
    found = [event for event in events(folder) if isinstance(event, Throughput)]
    assert sorted((event.round, event.sessions, event.case) for event in found) == [
        (0, 1, "c0"),
        (0, 3, "c0"),
        (1, 1, "c0"),
        (1, 3, "c0"),
    ]
    assert all(event.inferences >= event.sessions and event.wall_ns >= 50_000_000 for event in found)


def test_the_optimized_graph_is_told(job: Callable[..., Path]) -> None:
    folder = job(units=[])
    run("job", str(folder))
    (evaluated,) = [event for event in events(folder) if isinstance(event, Evaluated)]
    assert evaluated.graph is not None
    assert "Conv" in {op.op for op in evaluated.graph.ops}
    assert evaluated.graph.nodes == sum(op.count for op in evaluated.graph.ops)
    assert len(evaluated.graph.fingerprint) == 16
    assert [path.name for path in (folder / "outputs").iterdir()] == ["c0.npz"]


def test_optimization_levels_give_other_graphs(job: Callable[..., Path]) -> None:
    folder = job(broken=False, units=[])
    request = json.loads((folder / "request.json").read_text())
    request["cases"][1]["optimization"] = "disabled"
    (folder / "request.json").write_text(json.dumps(request))
    run("job", str(folder))
    first, second = [event.graph for event in events(folder) if isinstance(event, Evaluated)]
    assert first is not None
    assert second is not None
    assert first.fingerprint != second.fingerprint
    assert "Add" not in {op.op for op in first.ops}
    assert "Add" in {op.op for op in second.ops}


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    """What the kernel has for frequency governors, as plain files."""
    root = tmp_path / "cpufreq"
    for name, governor in (("policy0", "ondemand"), ("policy4", "schedutil")):
        (root / name).mkdir(parents=True)
        (root / name / "scaling_governor").write_text(governor)
    return root


def governors(root: Path) -> list[str]:
    return [(root / name / "scaling_governor").read_text() for name in ("policy0", "policy4")]


def test_the_governor_is_held_and_put_back(job: Callable[..., Path], policies: Path) -> None:
    folder = job(units=[], governor="performance")
    # What the models' process finds while it runs.
    (policies / "sitecustomize.py").write_text(
        f"import sys, pathlib\nif sys.argv[-1:] == ['worker']: open({str(policies / 'seen')!r}, 'a').write("
        f"pathlib.Path({str(policies / 'policy4' / 'scaling_governor')!r}).read_text() + ' ')\n"
    )
    run("job", str(folder), env={**os.environ, "QUANT_HARNESS_CPUFREQ": str(policies), "PYTHONPATH": str(policies)})
    (said,) = [event for event in events(folder) if isinstance(event, Governor)]
    assert (said.governor, said.was, said.reason) == ("performance", ["ondemand", "schedutil"], None)
    assert set((policies / "seen").read_text().split()) == {"performance"}
    assert governors(policies) == ["ondemand", "schedutil"]


def test_the_governor_is_put_back_after_a_kill(job: Callable[..., Path], policies: Path) -> None:
    folder = job(broken=False, rounds=1000, governor="performance")
    env = {**os.environ, "QUANT_HARNESS_CPUFREQ": str(policies)}
    process = subprocess.Popen(
        [sys.executable, str(program.job()), str(folder), str(program.runner())], env=env, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while governors(policies) != ["performance"] * 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    while governors(policies) != ["ondemand", "schedutil"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert governors(policies) == ["ondemand", "schedutil"]


@pytest.mark.parametrize("there", [False, True])
def test_a_governor_that_can_not_be_set_is_told_and_measuring_goes_on(
    job: Callable[..., Path], policies: Path, there: bool
) -> None:
    folder = job(units=[], governor="performance")
    (policies / "policy4" / "scaling_governor").unlink()
    root = policies if there else policies / "none"
    run("job", str(folder), env={**os.environ, "QUANT_HARNESS_CPUFREQ": str(root)})
    (said,) = [event for event in events(folder) if isinstance(event, Governor)]
    assert said.reason is not None
    assert ("No such file" if there else "no choice of governor") in said.reason
    assert (policies / "policy0" / "scaling_governor").read_text() == "ondemand"
    assert isinstance(events(folder)[-1], End)


def test_outputs_come_sample_by_sample(job: Callable[..., Path]) -> None:
    folder = job(units=[])
    run("job", str(folder))
    (evaluated,) = [line for line in lines(folder) if line["event"] == "evaluated"]
    data = (folder / "outputs" / evaluated["outputs"]["name"]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == evaluated["outputs"]["sha256"]
    with np.load(folder / "outputs" / "c0.npz", allow_pickle=False) as arrays:
        assert len(arrays.files) == SAMPLES
        assert arrays["arr_0"].shape == (1, 3)


def test_each_visit_is_a_fresh_process(job: Callable[..., Path], tmp_path: Path) -> None:
    # A module that Python loads at its start counts the processes.
    (tmp_path / "sitecustomize.py").write_text(f"open({str(tmp_path / 'starts')!r}, 'a').write('x')\n")
    folder = job(broken=False, rounds=3, least_rounds=3)
    run("job", str(folder), env={**os.environ, "PYTHONPATH": str(tmp_path)})
    # The job, the prober and its child, two evaluations, three duets.
    assert len((tmp_path / "starts").read_text()) == 8


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
        f"__version__ = '0'\ndef get_available_providers(): return []\nclass SessionOptions: pass\n"
        f"class GraphOptimizationLevel: ORT_ENABLE_ALL = 99\ndef InferenceSession(*a, **k):\n    {body}\n"
    )
    # The others have time to start on a busy machine.
    folder = job(timeout=2.0 if kind == "timeout" else 60.0)
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
    request = json.loads((folder / "request.json").read_text())
    case = {**request["cases"][0], **{key: str(blobs / request["cases"][0][key]) for key in ("model", "inputs")}}
    task = {**request, "task": "duet", "cases": [case], "cpus": None}
    done = subprocess.run(
        [sys.executable, "-c", worker_code, str(program.runner())],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == ["duet"]
    assert "noise" in done.stderr


def test_the_time_limit_ends_a_job(job: Callable[..., Path]) -> None:
    folder = job(max_time=0.0)
    run("job", str(folder))
    assert lines(folder)[-1] == {"event": "end", "reason": "max_time"}
    assert not duets(folder)


def test_sigterm_stops_a_job_and_keeps_what_it_measured(job: Callable[..., Path]) -> None:
    folder = job(broken=False, rounds=1000)
    process = subprocess.Popen([sys.executable, str(program.job()), str(folder), str(program.runner())])
    path = folder / "journal.jsonl"
    deadline = time.monotonic() + 60
    while not (path.exists() and '"duet"' in path.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    said = lines(folder)
    assert said[-1] == {"event": "end", "reason": "stopped"}
    assert duets(folder)


def test_cpus_pin_the_worker(job: Callable[..., Path], tmp_path: Path) -> None:
    cpu = max(os.sched_getaffinity(0))
    (tmp_path / "onnxruntime.py").write_text(
        "import os\n__version__ = '0'\ndef get_available_providers(): return []\nclass SessionOptions: pass\n"
        "class GraphOptimizationLevel: ORT_ENABLE_ALL = 99\ndef InferenceSession(*a, **k): raise RuntimeError(f'on {sorted(os.sched_getaffinity(0))}')\n"
    )
    folder = job(cpus=[cpu])
    run("job", str(folder), env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert [line["message"] for line in lines(folder) if line["event"] == "failed"] == [f"RuntimeError: on [{cpu}]"] * 2


@pytest.mark.parametrize("others", [[], [0]])
def test_a_cpu_that_is_not_there_is_the_cases_outcome_and_no_other_is_measured(
    job: Callable[..., Path], others: list[int]
) -> None:
    folder = job(cpus=[*others, 4095])
    run("job", str(folder))
    failed = [line["message"] for line in lines(folder) if line["event"] == "failed"]
    assert len(failed) == 2
    assert all(
        message.startswith(f"RuntimeError: the worker is to be pinned to cpus {[*others, 4095]}, but the system allows only [")
        for message in failed
    )
    assert duets(folder) == []


def test_a_wrong_command_is_one_line_of_the_protocol() -> None:
    done = run("nonsense")
    assert done.returncode == 2
    assert json.loads(done.stdout)["event"] == "error"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(RUNNERS)))
def test_a_module_is_small_and_needs_no_package_but_numpy_and_onnxruntime(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) <= 300
    beside = {other.stem for folder in (path.parent, RUNNERS / "shared", RUNNERS) for other in folder.glob("*.py")}
    allowed = {"numpy", "onnxruntime"} if path.parent.name == "ort_runner" else set()
    found = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(source, feature_version=(3, 9)))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [str(node.module)]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert found - set(sys.stdlib_module_names) - beside <= allowed


def test_an_emulated_clock_counts_in_processes_of_their_own_until_they_agree(job: Callable[..., Path]) -> None:
    folder = job(units=[], counter="icount", count_spread=1e9)
    run("job", str(folder))
    counted = [event for line in lines(folder) if isinstance(event := journal.check(line, "b"), Counted)]
    assert [(event.case, event.round, event.counter) for event in counted] == [("c0", 0, "icount"), ("c0", 1, "icount")]
    assert all(len(event.instructions) == 3 and min(event.instructions) > 0 for event in counted)
    assert counted[0].cycles is None
    assert not duets(folder)


def test_counting_ends_after_the_rounds_that_are_allowed(job: Callable[..., Path]) -> None:
    # Wall clock never agrees to one part in 10^12.
    folder = job(units=[], counter="icount", count_spread=1e-12, count_rounds=3)
    run("job", str(folder))
    assert [line["round"] for line in lines(folder) if line["event"] == "counted"] == [0, 1, 2]


def test_an_emulated_device_computes_only_the_first_samples(job: Callable[..., Path]) -> None:
    folder = job(units=[], samples=2)
    run("job", str(folder))
    with np.load(folder / "outputs" / "c0.npz", allow_pickle=False) as arrays:
        assert len(arrays.files) == 2


def test_the_kernels_counters_count_or_say_why_not(job: Callable[..., Path]) -> None:
    reason = device_facts.check(json.loads(run("probe").stdout), "local").uncountable
    folder = job(units=[], counter="perf")
    run("job", str(folder))
    said = [line for line in lines(folder) if line.get("case") == "c0" and line["event"] in {"counted", "trouble"}]
    if reason is None:
        counts = [line["instructions"] for line in said]
        assert all(count > 1000 for counted in counts for count in counted)
        assert all(len(line["cycles"]) == 3 for line in said)
    else:
        # It can be timed all the same.
        assert [(line["event"], line["what"]) for line in said] == [("trouble", "count")]
        assert "counter" in reason or "paranoid" in reason


def test_cases_of_two_runtimes_are_kept_apart_and_each_has_its_own(job: Callable[..., Path], tmp_path: Path) -> None:
    folder = job(broken=False, rounds=1)
    for name in ("one", "two"):
        (tmp_path / "store" / "runtimes" / name).mkdir(parents=True)
    # What the second runtime has comes before what this Python has.
    other = tmp_path / "store" / "runtimes" / "two" / "numpy"
    other.mkdir()
    (other / "__init__.py").write_text(
        f"import sys\nopen({str(tmp_path / 'seen')!r}, 'a').write('x')\n"
        "del sys.modules['numpy']\nsys.path.remove(__file__.rsplit('/', 2)[0])\nimport numpy\n"
    )
    request = json.loads((folder / "request.json").read_text())
    for case, name in zip(request["cases"], ("one", "two"), strict=True):
        case["runtime"] = name
    (folder / "request.json").write_text(json.dumps(request))
    command = [sys.executable, "-I", "-S", str(program.job()), str(folder), str(program.runner())]
    packages = os.pathsep.join(path for path in sys.path if path.endswith("-packages"))
    subprocess.run(command, check=True, timeout=120, env={**os.environ, "QUANT_HARNESS_PATH": packages})
    (apart,) = [event for event in events(folder) if isinstance(event, SeparateProcesses)]
    assert apart.reason == "two versions of onnxruntime can't be in one process"
    assert sorted(duet.cases for duet in duets(folder)) == [("c0",), ("c1",)]
    # One evaluation, one launch.
    assert (tmp_path / "seen").read_text() == "xx"


def test_one_job_at_a_time_holds_the_device(job: Callable[..., Path]) -> None:
    folder = job(broken=False, rounds=1000, who={"user": "ci", "host": "agent3", "pid": 7})
    second = folder.with_name("k")
    shutil.copytree(folder, second)
    first = subprocess.Popen([sys.executable, str(program.job()), str(folder), str(program.runner())])
    try:
        deadline = time.monotonic() + 60
        while not ((folder / "journal.jsonl").exists() and duets(folder)) and time.monotonic() < deadline:
            time.sleep(0.05)
        run("job", str(second))
        (said,) = lines(second)
        assert said["event"] == "busy"
        assert json.loads(said["holder"]) == {
            "user": "ci",
            "host": "agent3",
            "pid": 7,
            "job": "j",
            "since": pytest.approx(time.time(), abs=90),
            "protocol": 4,
            "uid": os.getuid(),
            "account": pwd.getpwuid(os.getuid()).pw_name,
            "process": first.pid,
            "answers": True,
            "mine": True,
        }
        assert (second / "rc").read_text() == "0"
    finally:
        first.kill()
        first.wait()
    # Killed, and so is what it started once that has ended: the kernel has freed the device.
    (second / "journal.jsonl").unlink()
    request = {**json.loads((second / "request.json").read_text()), "rounds": 1}
    (second / "request.json").write_text(json.dumps(request))
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        run("job", str(second))
        if lines(second)[0]["event"] != "busy":
            break
        (second / "journal.jsonl").unlink()
    assert duets(second)


def test_an_allocation_that_onnxruntime_fails_keeps_the_pair_apart(job: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import onnxruntime as o\nmake, made = o.InferenceSession, []\n"
        "def session(*a, **k):\n"
        "    made.append(1)\n"
        "    if len(made) == 2 and not a[1].enable_profiling:\n"
        "        raise RuntimeError('Failed to allocate memory for requested buffer of size 9')\n"
        "    return make(*a, **k)\n"
        "o.InferenceSession = session\n"
    )
    folder = job(broken=False, rebuilds=1)
    run("job", str(folder), env={**os.environ, "PYTHONPATH": str(tmp_path)})
    (apart,) = [event for event in events(folder) if isinstance(event, SeparateProcesses)]
    assert apart.reason.startswith("memory: ")
    assert len(duets(folder)) == 4


def test_a_case_that_fails_while_it_runs_is_the_one_that_is_dropped(job: Callable[..., Path], tmp_path: Path) -> None:
    # The second case's model fails at its twentieth run, long after it was loaded beside the first.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, json, onnxruntime as o\nrun, count = o.InferenceSession.run_with_iobinding, {}\n"
        "def counted(self, *a):\n"
        "    count[self] = count.get(self, 0) + 1\n"
        "    if count[self] == 20 and self._sess_options.intra_op_num_threads == 2: raise RuntimeError('no more')\n"
        "    return run(self, *a)\n"
        "o.InferenceSession.run_with_iobinding = counted\n"
    )
    folder = job(broken=False)
    request = json.loads((folder / "request.json").read_text())
    request["cases"][1]["threads"] = 2
    (folder / "request.json").write_text(json.dumps(request))
    run("job", str(folder), env={**os.environ, "PYTHONPATH": str(tmp_path)})
    failed = [event for event in events(folder) if isinstance(event, Failed)]
    assert [(event.case, event.kind, "no more" in event.message) for event in failed] == [("c1", "run", True)]
    assert {duet.cases for duet in duets(folder)} == {("c0",)}


def test_a_launch_that_takes_long_makes_one_rebuild_with_one_pair(job: Callable[..., Path]) -> None:
    folder = job(broken=False, launch=1e-6, rounds=1)
    run("job", str(folder))
    (found,) = duets(folder)
    assert [len(rebuild.pairs) for rebuild in found.rebuilds] == [1]


class TestModels:
    """Files are stored under their hashes: what they are shows in their bytes."""

    @pytest.fixture
    def case(self, tmp_path: Path) -> dict[str, Any]:
        np.savez(tmp_path / "i.npz", np.ones((2, 1, 1, 8, 8), np.float32))
        return {
            "inputs": str(tmp_path / "i.npz"), "names": ["x"], "threads": 1, "provider": "CPUExecutionProvider", "optimization": "all",
            "model": str(tmp_path / "0123456789abcdef"),
        }  # fmt: skip

    def outputs(self, case: dict[str, Any]) -> Any:
        model = runpy.run_path(str(RUNNERS / "ort_runner" / "model.py"))["Model"](case)
        model.first()()
        return model.session.run(None, model.feeds[0])[0]

    def test_onnxruntimes_own_format(self, case: dict[str, Any]) -> None:
        tiny_cnn(Path(case["model"]))
        expected = self.outputs(case)
        ort_format.finish(Path(case["model"]), "ort-amd64")
        assert Path(case["model"]).read_bytes()[4:8] == b"ORTM"
        np.testing.assert_allclose(self.outputs(case), expected, rtol=1e-5)

    def test_inputs_in_half_precision(self, case: dict[str, Any]) -> None:
        tiny_cnn(Path(case["model"]))
        expected = self.outputs(case)
        onnx.save(convert_float_to_float16(onnx.load(case["model"]), keep_io_types=False), case["model"])
        found = self.outputs(case)
        assert found.dtype == np.float16
        np.testing.assert_allclose(found, expected, atol=0.05)
