"""The plugin as a team uses it: pytest within pytest, on this machine."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.models import conv_chain

if TYPE_CHECKING:
    from tests.sshd import SshServer

TEST = """
def test_model(device_benchmark):
    found = device_benchmark("model.onnx", max_regression=0.5)
    assert found.folder.is_dir()
    assert found.median_ms > 0
"""


EXACT = """
def test_model(device_benchmark):
    assert device_benchmark("model.onnx", device="{device}", metric="size").folder.is_dir()
"""


# A few short rounds, however long they take on a busy machine.
SHORT = """\
from harness.pytest_plugin import DeviceBenchmark

whole = DeviceBenchmark._study

def short(self, *given):
    study = whole(self, *given)
    measure = {"rounds": ROUNDS, "rebuilds": 2, "warmup": 0.02, "block": 0.004}
    return study.model_copy(update={"measure": study.measure.model_copy(update=measure)})

DeviceBenchmark._study = short
"""


@pytest.fixture
def team(pytester: pytest.Pytester) -> pytest.Pytester:
    """A test file and a model."""
    conv_chain(pytester.path / "model.onnx", 3)
    pytester.makeconftest(f"ROUNDS = 8\n{SHORT}")
    pytester.makepyfile(TEST)
    return pytester


@pytest.mark.faults
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

    # Four times as much work, so that noise decides nothing.
    conv_chain(team.path / "model.onnx", 12)
    slower = team.runpytest_subprocess("--device-baseline", "1.0")
    slower.assert_outcomes(failed=1)
    slower.stdout.fnmatch_lines(["*latency.median got worse: *where +50 % is allowed*"])
    slower.stdout.no_fnmatch_line("*Traceback*")


@pytest.mark.faults
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
    # So does a model that is not there, whatever it would be compared with.
    done = team.runpytest_subprocess("--device-baseline", "9.9")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*absent.onnx: no such file"])


@pytest.mark.ssh
@pytest.mark.faults
def test_a_baseline_that_a_dead_board_could_not_give_skips_and_strictly_fails(team: pytest.Pytester, sshd: SshServer) -> None:
    team.makepyfile(EXACT.format(device="board"))
    team.makeconftest(f"ROUNDS = 1\n{SHORT}")
    registry = team.path / "devices.toml"
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        registry.write_text(re.sub("port = .*", f"port = {closed.getsockname()[1]}", sshd.entry("board")))
        saved = team.runpytest_subprocess("--device-save", "1.0", "-rs")
    saved.assert_outcomes(skipped=1)
    saved.stdout.fnmatch_lines(["*not measured; not saved as '1.0': *board: connect: *"])
    # The board is up again.
    registry.write_text(sshd.entry("board"))
    asked = team.runpytest_subprocess("--device-baseline", "1.0", "-rs")
    asked.assert_outcomes(skipped=1)
    asked.stdout.fnmatch_lines(
        [
            "*no baseline '1.0' of model.onnx on board: *1.0.model.board.json does not exist.*gave no result*'pytest --device-save 1.0' saves one*"
        ]
    )
    strict = team.runpytest_subprocess("--device-baseline", "1.0", "--device-strict")
    strict.assert_outcomes(failed=1)
    strict.stdout.fnmatch_lines(["*no baseline '1.0' of model.onnx on board: *"])
    strict.stdout.no_fnmatch_line("*Traceback*")
    # A release that is compared with the last one and saved for the next is saved all the same.
    next_one = team.runpytest_subprocess("--device-baseline", "1.0", "--device-save", "1.1", "-rs")
    next_one.assert_outcomes(skipped=1)
    next_one.stdout.fnmatch_lines(["*measured, but not compared: no baseline '1.0' of *"])
    assert (team.path / "baselines" / "1.1.model.board.json").is_file()
    team.runpytest_subprocess("--device-baseline", "1.1", "--device-strict").assert_outcomes(passed=1)


@pytest.mark.faults
def test_only_the_tests_that_a_baseline_lacks_are_skipped(team: pytest.Pytester) -> None:
    conv_chain(team.path / "other.onnx", 2)
    team.makeconftest(f"ROUNDS = 1\n{SHORT}")
    parametrized = EXACT.format(device="local").replace("(device_benchmark)", "(device_benchmark, name)")
    parametrized = parametrized.replace('"model.onnx"', 'name + ".onnx"')
    names = "import pytest\n@pytest.mark.parametrize('name', {names})"
    team.makepyfile(names.format(names=["model"]) + parametrized)
    team.runpytest_subprocess("--device-save", "1.0").assert_outcomes(passed=1)
    team.makepyfile(names.format(names=["model", "other"]) + parametrized)
    team.runpytest_subprocess("--device-baseline", "1.0").assert_outcomes(passed=1, skipped=1)
    # A name that nobody saved: the one that is likely meant is named.
    mistyped = team.runpytest_subprocess("--device-baseline", "1.00", "-rs")
    mistyped.assert_outcomes(skipped=2)
    mistyped.stdout.fnmatch_lines(["*no baseline '1.00' of model.onnx on local (did you mean '1.0'?)*"])
    # What was saved and is damaged is no missing baseline.
    (team.path / "baselines" / "1.0.model.local.json").write_text("{")
    (team.path / "baselines" / "1.0.other.local.json").symlink_to("nowhere.json")
    damaged = team.runpytest_subprocess("--device-baseline", "1.0")
    damaged.assert_outcomes(failed=2)
    damaged.stdout.fnmatch_lines(["*1.0.model.local.json: the file is not a baseline, or is damaged*save the baseline again*"])


def test_two_models_never_share_a_baseline(team: pytest.Pytester) -> None:
    (team.path / "b").mkdir()
    conv_chain(team.path / "b" / "model.onnx", 2)
    team.makepyfile(
        'def test_first(device_benchmark):\n    device_benchmark("model.onnx")\n'
        'def test_second(device_benchmark):\n    device_benchmark("b/model.onnx")\n'
    )
    done = team.runpytest_subprocess("--device-baseline", "1.0", "-p", "no:randomly")
    done.assert_outcomes(skipped=1, failed=1)
    done.stdout.fnmatch_lines(
        ["*1.0.model.local.json: two models would share this baseline*give one of the two files another name*"]
    )


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
