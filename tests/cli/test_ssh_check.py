"""Every exit code of a gate, end to end over a real OpenSSH server."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import pytest

from tests.cli.test_check import SLOWER, chain
from tests.cli.test_run import spawn, wait_for
from tests.models import conv_chain

if TYPE_CHECKING:
    from tests.cli.conftest import Command
    from tests.sshd import SshServer

__all__ = ["chain"]
pytestmark = [pytest.mark.ssh, pytest.mark.slow]


@pytest.fixture
def gate(chain: Path, sshd: SshServer) -> list[str]:
    """The gate on the board."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        Path("devices.toml").write_text(sshd.entry("board") + sshd.entry("down", port=int(free.getsockname()[1])))
    return ["check", str(chain), "--baseline", str(chain / "base.onnx"), "--device", "board"]


def test_0_passed(harness: Command, gate: list[str]) -> None:
    done = harness(*gate)
    assert done.code == 0, done.out + done.err
    assert "PASSED" in done.out


def test_1_regressed(harness: Command, gate: list[str], chain: Path) -> None:
    conv_chain(chain / "model.onnx", SLOWER)
    done = harness(*gate)
    assert done.code == 1, done.out + done.err
    assert "given on board: latency.median got worse" in done.out


@pytest.mark.long
def test_1_regressed_although_another_board_is_down(harness: Command, gate: list[str], chain: Path) -> None:
    conv_chain(chain / "model.onnx", SLOWER)
    assert harness(*gate, "--device", "down").code == 1


def test_2_bad_input(harness: Command, gate: list[str], chain: Path) -> None:
    (chain / "model.onnx").write_bytes(b"no model")
    done = harness(*gate)
    assert done.code == 2
    assert "not an ONNX model" in done.err


def test_3_a_board_that_is_down_is_no_regression_and_no_pass(harness: Command, gate: list[str]) -> None:
    done = harness(*gate, "--device", "down")
    assert done.code == 3
    assert done.out.splitlines()[-2].startswith("INCOMPLETE: 1 not measured, 2 passed; ")
    assert "without down, which failed" in done.out


@pytest.mark.long
def test_3_a_baseline_that_does_not_load_there(harness: Command, gate: list[str], chain: Path) -> None:
    model = onnx.load(chain / "base.onnx")
    model.graph.node[-1].op_type, model.graph.node[-1].domain = "Unheard", "nobody.knows"
    model.opset_import.append(onnx.helper.make_opsetid("nobody.knows", 1))
    onnx.save(model, chain / "base.onnx")
    done = harness(*gate)
    assert done.code == 3, done.out + done.err
    assert "the baseline failed: load: " in done.out


def test_4_not_known_closely_enough(harness: Command, gate: list[str]) -> None:
    assert harness(*gate, "--rounds", "2").code == 4


@pytest.mark.long
def test_75_a_busy_board_is_named_with_who_holds_it(harness: Command, gate: list[str], chain: Path) -> None:
    other = spawn("run", str(chain), "--device", "board", "--rounds", "500", "--results", "results/other")
    try:
        deadline = time.monotonic() + 60
        while not list(Path("results/other").glob("*/*/journal.jsonl")) or '"event":"round"' not in next(Path("results/other").glob("*/*/journal.jsonl")).read_text():  # fmt: skip
            assert time.monotonic() < deadline
            time.sleep(0.05)
        done = harness(*gate)
        assert done.code == 75, done.out + done.err
        assert "another job is using the device (" in done.out
    finally:
        other.send_signal(signal.SIGINT)
        other.communicate(timeout=60)


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_130_an_aborted_gate_frees_its_board_at_once(harness: Command, gate: list[str], number: signal.Signals) -> None:
    process = spawn(*gate, "--rounds", "500", "--max-regression", "0.01")
    wait_for('"event":"round"')
    process.send_signal(number)
    begun = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert time.monotonic() - begun < 60, "freed at once, not when its time is up"
    assert "INTERRUPTED" in out
    # The next one finds the board free; on a busy machine it may not decide.
    assert harness(*gate).code in {0, 4}
