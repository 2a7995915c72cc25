"""What goes wrong with a worker is the outcome of its case, and the job goes on; what goes wrong with the job is told."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from harness.devices import program
from tests.runners.fakes import WELL, begin, carry_out, journal, named, place, until

DUET = "if task['task'] == 'duet': "


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        ("os.kill(os.getpid(), signal.SIGILL)", "crash", "killed by SIGILL; last words: no message"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crash", "killed by SIGSEGV; last words: no message"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "crash", "killed by SIGKILL; last words: no message"),
        ("os.kill(os.getpid(), 40)", "crash", "killed by signal 40; last words: no message"),
        ("sys.stderr.write('x' * 3_000_000 + '\\nboom\\n'); sys.exit(3)", "crash", "boom"),
        ("said = 'no JSON'", "crash", r"it sent something that is not in its protocol: 'no JSON\n'"),
        ("said = '[]'", "crash", r"it sent something that is not in its protocol: '[]\n'"),
        ("said = '['*100_000", "crash", f"it sent something that is not in its protocol: {'[' * 100!r}"),
        pytest.param("os.kill(os.getpid(), signal.SIGSTOP)", "timeout", "no result after 10 s", marks=pytest.mark.long),
        pytest.param("time.sleep(600)", "timeout", "no result after 10 s", marks=pytest.mark.long),
    ],
)
def test_a_worker_that_fails_is_its_cases_outcome_and_the_others_go_on(
    tmp_path: Path, code: str, kind: str, message: str
) -> None:
    folder = place(tmp_path, "j", WELL, DUET + code, WELL, timeout=10.0)
    assert carry_out(folder)[0] == 0
    (failed,) = named(folder, "failed")
    assert (failed["case"], failed["round"], failed["kind"], failed["message"]) == ("c1", 0, kind, message)
    assert sorted((line["cases"][0], line["round"]) for line in named(folder, "duet")) == [
        ("c0", 0),
        ("c0", 1),
        ("c2", 0),
        ("c2", 1),
    ]
    assert journal(folder)[-1] == {"event": "end", "reason": "rounds"}
    assert (folder / "rc").read_text() == "0"


@pytest.mark.long
def test_a_workers_child_that_holds_its_pipes_does_not_hold_the_job(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    child = f"import subprocess; open({str(pid)!r}, 'w').write(str(subprocess.Popen(['sleep', '600']).pid)); time.sleep(600)"
    folder = place(tmp_path, "j", WELL, f"exec({child!r})", timeout=10.0)
    process = begin(folder)
    until((folder / "rc").exists, 120)
    os.kill(int(pid.read_text()), signal.SIGKILL)
    assert [(line["case"], line["kind"]) for line in named(folder, "failed")] == [("c1", "timeout")]
    assert len(named(folder, "duet")) == 2
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_memory_that_runs_out_is_the_cases_outcome_and_says_how_much_there_was(tmp_path: Path) -> None:
    folder = place(tmp_path, "j", WELL, "bytearray(300 << 20)", WELL, memory=200 << 20)
    assert carry_out(folder)[0] == 0
    (failed,) = named(folder, "failed")
    assert failed["message"] == "MemoryError (its limit is 209.7 MB: memory in devices.toml)"
    assert len(named(folder, "duet")) == 4
    folder = place(tmp_path, "k", "bytearray(300 << 20)", memory=None)
    assert carry_out(folder)[0] == 0
    assert named(folder, "failed") == []


def test_a_job_ends_itself_past_its_longest_time(tmp_path: Path) -> None:
    folder = place(tmp_path, "j", WELL, DUET + "time.sleep(600)", longest=3.0, timeout=600.0, rounds=1000, least_rounds=1000)
    assert carry_out(folder)[0] == 0
    assert journal(folder)[-1] == {"event": "end", "reason": "max_time"}
    assert len(named(folder, "evaluated")) == 2


def test_a_disk_that_does_not_take_outputs_ends_the_job_and_is_no_cases_fault(tmp_path: Path) -> None:
    code = (
        "if task['task'] == 'evaluate':\n"
        "    open(task['outputs'], 'wb').write(b'part')\n"
        "    said = {'event': 'failed', 'kind': 'run', 'message': 'OSError: [Errno 28] No space left on device'}"
    )
    folder = place(tmp_path, "j", WELL, code)
    returned, log = carry_out(folder)
    assert (returned, log) == (1, "OSError: [Errno 28] No space left on device\n")
    assert [line["event"] for line in journal(folder)] == ["begin", "evaluated"]
    assert not (folder / "rc").exists()


def test_a_prober_that_dies_is_told(tmp_path: Path) -> None:
    folder = place(tmp_path, "j", WELL, prober="raise SystemExit('no such board')")
    assert carry_out(folder) == (1, "its prober failed: no such board\n")


def test_a_clock_that_is_set_back_changes_nothing(tmp_path: Path) -> None:
    # As of the second time that any process asks, it is an hour earlier.
    (tmp_path / "sitecustomize.py").write_text(
        "import time\nnow, asked = time.time, []\n"
        "def back():\n    asked.append(1)\n    return now() - (3600 if len(asked) > 1 else 0)\ntime.time = back\n"
    )
    folder = place(tmp_path / "store", "j", WELL, rounds=3, least_rounds=3)
    begun = time.time()
    assert carry_out(folder, PYTHONPATH=str(tmp_path))[0] == 0
    since = json.loads((tmp_path / "store" / "lease").read_text())["since"]
    (begin_line,) = named(folder, "begin")
    assert since - begin_line["time"] > 3500, "it was set back meanwhile"
    elapsed = [line["elapsed"] for line in named(folder, "round")]
    assert elapsed == sorted(elapsed)
    assert 0 <= elapsed[-1] < time.time() - begun
    assert journal(folder)[-1] == {"event": "end", "reason": "rounds"}


def test_a_model_too_large_for_its_allowance_fails_for_memory_in_the_real_runner(tmp_path: Path) -> None:
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save

    store, inputs = tmp_path / "store", tmp_path / "inputs.npz"
    shape = numpy_helper.from_array(np.array([400_000_000], np.int64), "shape")
    nodes = [helper.make_node("Expand", ["x", "shape"], ["big"]), helper.make_node("ReduceMax", ["big"], ["y"], keepdims=0)]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in (("x", [1]), ("y", [])))
    graph = helper.make_graph(nodes, "g", [x], [y], [shape])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "model")
    np.savez(inputs, np.ones((1, 1), np.float32))
    folder = place(store, "j", "its model", memory=1 << 30)
    request = json.loads((folder / "request.json").read_text())
    blobs = store / "blobs" / "sha256"
    for key, path in (("model", tmp_path / "model"), ("inputs", inputs)):
        (blobs / request["cases"][0][key]).write_bytes(path.read_bytes())
    request["cases"][0] |= {"names": ["x"], "threads": 1, "provider": "CPUExecutionProvider", "optimization": "all"}
    (folder / "request.json").write_text(json.dumps(request))
    assert carry_out(folder, runner=program.runner())[0] == 0
    (failed,) = named(folder, "failed")
    assert failed["kind"] == "memory", failed
    assert failed["message"].endswith("(its limit is 1073.7 MB: memory in devices.toml)")
