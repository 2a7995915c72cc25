"""What harness devices says of what devices say."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from rich.console import Console

from harness.cli.grid import grid
from harness.devices import facts as device_facts
from harness.devices.device import Device
from harness.devices.facts import Facts
from harness.devices.lease import holder
from harness.devices.probe import Answer, probe_all
from harness.errors import AuthenticationError, ConnectError, DeviceError, HostKeyMismatchError, RunnerError, UnknownHostKeyError

SAID = {"arch": "aarch64", "cpu_model": "Cortex-A76", "cores": 4, "python": "3.11.2", "onnxruntime": {"version": "1.31.1"}}
HOLDER = {"user": "ci", "host": "jenkins", "pid": 4711, "url": "https://ci/job/7", "since": 1_790_000_000, "protocol": 4}
BOARD = Device(name="rpi5", host="rpi5.lab", tags=["arm64"])


def facts(**other: Any) -> Facts:
    return device_facts.check(SAID | other, "rpi5")


def test_a_device_that_is_held_is_busy_and_says_by_whom() -> None:
    answer = Answer(BOARD, facts(holder=json.dumps(HOLDER)), None)
    assert answer.state == "busy"
    assert answer.busy == "ci@jenkins, process 4711, https://ci/job/7, since 2026-09-21 14:13:20 UTC by the device's clock"
    assert answer.as_json()["busy"] == answer.busy
    assert Answer(BOARD, facts(), None).state == "reachable"


def test_a_holder_of_another_account_or_version_is_told_as_such() -> None:
    theirs = HOLDER | {"job": "ab12", "account": "ci-runner", "process": 99, "answers": True}
    assert holder(json.dumps(theirs)).endswith("by the device's clock, job ab12, account ci-runner on the device")
    assert "a job of protocol 5 (quant-harness 9.1) (this harness speaks 4)," in holder(
        json.dumps(theirs | {"protocol": 5, "harness": "9.1"})
    )
    older = {key: value for key, value in HOLDER.items() if key != "protocol"}
    assert holder(json.dumps(older)).endswith("by the device's clock, a job of an earlier protocol (this harness speaks 4)")
    silent = {"account": "ci-runner", "process": 99, "answers": False}
    assert (
        holder(json.dumps(silent)) == "it does not say whose, account ci-runner on the device, process 99 there does not answer"
    )


@pytest.mark.parametrize("said", ["", "{", "[]", '{"since": 1e99}', '{"since": "x"}', "[" * 2000, '{"since": 5}', "null"])
def test_a_holder_that_says_nothing_of_use(said: str) -> None:
    assert holder(said) == "it does not say whose"
    assert Answer(BOARD, facts(holder=said), None).state == "busy"


def test_a_holder_can_not_write_to_the_terminal() -> None:
    said = holder(json.dumps(HOLDER | {"user": "\x1b[2Jci\n"}))
    assert said.startswith("?[2Jci?@jenkins")
    assert len(holder(json.dumps(HOLDER | {"user": "x" * 1900}))) == 500


@pytest.mark.parametrize(
    "wrong", [{"holder": "x" * 2001}, {"runtimes": ["1.2.3"] * 101}, {"runtimes": ["1" * 101]}, {"holder": 5}]
)
def test_what_a_board_says_is_bounded(wrong: dict[str, Any]) -> None:
    with pytest.raises(RunnerError, match="not follow the protocol"):
        facts(**wrong)


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (ConnectError("b", "connect", "no answer"), "unreachable"),
        (UnknownHostKeyError("b", "connect", "unknown host key of b: …"), "unknown key"),
        (HostKeyMismatchError("b", "connect", "the host key of b is not the one expected: …"), "wrong key"),
        (AuthenticationError("b", "connect", "refused"), "refused"),
        (RunnerError("b", "probe", "died"), "no runner"),
    ],
)
def test_states(error: DeviceError, state: str) -> None:
    answer = Answer(BOARD, None, error)
    assert answer.state == state
    assert answer.cells().keys() == Answer(BOARD, facts(), None).cells().keys()
    assert answer.sentence() == "rpi5.lab arm64"


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (["fp", "asimd", "asimddp", "asimdhp"], "dotprod fp16"),
        (["asimddp", "i8mm", "bf16", "sve", "sve2"], "i8mm dotprod bf16 sve2"),
        (["avx", "avx2"], "avx2"),
        (["avx2", "avx_vnni"], "avx-vnni"),
        (["avx2", "avx512f", "avx512_vnni", "amx_int8", "avx512_bf16"], "amx-int8 avx512-vnni avx512-bf16"),
        (["fp", "asimd"], ""),
    ],
)
def test_features_that_matter_for_int8(features: list[str], words: str) -> None:
    assert device_facts.telling(facts(features=features)) == words


def test_runtimes_are_listed_once_the_one_in_use_first() -> None:
    assert Answer(BOARD, facts(runtimes=["1.23.2", "1.31.1"]), None).cells()["onnxruntime"] == "1.31.1 1.23.2"
    bare = facts(onnxruntime={"error": "none"}, runtimes=["1.23.2"])
    assert Answer(BOARD, bare, None).cells()["onnxruntime"] == "1.23.2"


def test_devices_are_asked_at_the_same_time() -> None:
    together = threading.Barrier(12, timeout=100)

    def hang_up(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, contextlib.suppress(threading.BrokenBarrierError):
            together.wait()
            connection.sendall(b"SSH-1.0-old\r\n")

    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(12)]
        pool = stack.enter_context(ThreadPoolExecutor(12))
        for server in servers:
            pool.submit(hang_up, server)
        devices = [
            Device(name=f"board{number}", host="127.0.0.1", port=server.getsockname()[1], user="x", connect_time=200)
            for number, server in enumerate(servers)
        ]
        answers = probe_all(devices)
    assert not together.broken
    assert [answer.device.name for answer in answers] == [device.name for device in devices]
    assert {answer.state for answer in answers} == {"unreachable"}


def test_eighty_columns_are_enough_to_read() -> None:
    full = facts(
        cpu_model="Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", features=["avx2", "avx512f", "avx512_vnni", "amx_int8"],
        governor="performance", temperature_celsius=51.6, memory_bytes=8 << 30, runtimes=["1.31.1", "1.23.2"],
    )  # fmt: skip
    answers = [Answer(BOARD, full, None), Answer(BOARD.model_copy(update={"name": "jetson-orin-nano"}), None, None)]
    screen = Console(width=80, file=io.StringIO(), highlight=False)
    screen.print(grid(["device", "state", "what it is"], [[each.device.name, each.state, each.sentence()] for each in answers]))
    assert isinstance(screen.file, io.StringIO)
    lines = screen.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    for words in ("jetson-orin-nano", "performance, 52 °C, 8.0 GiB", "int8: amx-int8", "onnxruntime 1.31.1 1.23.2"):
        assert words in text, text
