"""The plugin as a team uses it: pytest within pytest, on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.models import conv_chain

TEST = """
def test_model(device_benchmark):
    found = device_benchmark("model.onnx", max_regression=0.15, max_time="{time}")
    assert found.folder.is_dir()
    assert found.median_ms > 0
"""


@pytest.fixture
def team(pytester: pytest.Pytester) -> pytest.Pytester:
    """A test file and a model."""
    conv_chain(pytester.path / "model.onnx", 3)
    pytester.makepyfile(TEST.format(time="5s"))
    return pytester


@pytest.mark.slow
def test_a_gate_beside_the_tests(team: pytest.Pytester) -> None:
    saved = team.runpytest_subprocess("--device-save", "1.0", "--device-json", "out.json")
    saved.assert_outcomes(passed=1)
    saved.stdout.fnmatch_lines(["*device benchmarks*", "model on local: * ms; not compared: no baseline"])
    assert (team.path / "baselines" / "1.0.model.local.json").is_file()
    benchmarks = json.loads((team.path / "out.json").read_text())["benchmarks"]
    assert [each["name"] for each in benchmarks] == ["given"]

    same = team.runpytest_subprocess("--device-baseline", "1.0")
    same.assert_outcomes(passed=1)
    same.stdout.fnmatch_lines(["model on local: PASSED: 2 passed; against baseline '1.0.model.local' *"])

    conv_chain(team.path / "model.onnx", 6)
    slower = team.runpytest_subprocess("--device-baseline", "1.0")
    slower.assert_outcomes(failed=1)
    slower.stdout.fnmatch_lines(["*latency.median got worse: *where +15 % is allowed*"])
    slower.stdout.no_fnmatch_line("*Traceback*")


@pytest.mark.slow
def test_what_is_no_fault_of_the_model_skips_and_strictly_fails(team: pytest.Pytester) -> None:
    (team.path / "devices.toml").write_text('[down]\nhost = "127.0.0.1"\nport = 9\nuser = "x"\n')
    team.makepyfile('def test_model(device_benchmark):\n    device_benchmark("model.onnx", device="down")\n')
    words = ["--device-registry", "devices.toml"]
    skipped = team.runpytest_subprocess(*words, "-rs")
    skipped.assert_outcomes(skipped=1)
    skipped.stdout.fnmatch_lines(["*not measured: *down: connect: *"])
    team.runpytest_subprocess(*words, "--device-strict").assert_outcomes(failed=1)


def test_wrong_use_fails_with_one_message(team: pytest.Pytester) -> None:
    team.makepyfile('def test_model(device_benchmark):\n    device_benchmark("absent.onnx")\n')
    done = team.runpytest_subprocess()
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*absent.onnx: no such file"])
    team.makepyfile('def test_model(device_benchmark):\n    device_benchmark("model.onnx")\n')
    done = team.runpytest_subprocess("--device-baseline", "9.9")
    done.stdout.fnmatch_lines(["*no baseline '9.9.model.local'*"])


def test_nothing_heavy_is_imported_by_sessions_that_do_not_use_it(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\ndef test_other():\n    assert not {'onnx', 'onnxruntime', 'pandas', 'paramiko', 'numpy', 'pydantic'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", tmp_path],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stdout
