"""The same study on devices over SSH, against a real OpenSSH server."""

from __future__ import annotations

import itertools
import json
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.devices import registry
from harness.measure import journal
from harness.measure.launch import Launch
from harness.measure.route_events import Pushed
from tests.cli.test_run import spawn, wait_for

if TYPE_CHECKING:
    from tests.cli.conftest import Command
    from tests.sshd import SshServer

pytestmark = [pytest.mark.ssh, pytest.mark.slow]

SAME = (
    "case",
    "variant",
    "state",
    "reason",
    "size",
    "accuracy",
    "accuracy_drop",
    "mse",
    "sqnr_db",
    "identical",
    "top1_agreement",
)


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def by_device(content: Any) -> dict[str, Any]:
    return {device["device"]: device for device in content["devices"]}


@pytest.mark.long
def test_two_devices_at_the_same_time_and_one_that_is_down(harness: Command, study: Path, sshd: SshServer) -> None:
    down = sshd.entry("down", port=closed_port())
    Path("devices.toml").write_text(sshd.entry("board") + down)
    done = harness("run", str(study), "--device", "local", "--device", "board", "--device", "down", "--json")
    assert done.code == 3, done.err
    found = by_device(done.json)
    assert [found[name]["state"] for name in ("local", "board", "down")] == ["measured", "measured", "failed"]
    assert "connect: 127.0.0.1" in found["down"]["trouble"]
    assert [{key: row[key] for key in SAME} for row in found["board"]["rows"]] == [
        {key: row[key] for key in SAME} for row in found["local"]["rows"]
    ]
    assert found["board"]["facts"]["executable"] == sshd.python
    assert {row["median_ms"] for row in found["down"]["rows"]} == {None}
    (made,) = Path("results/tiny").iterdir()
    devices = [event.device for event in journal.read(made / "journal.jsonl") if isinstance(event, Launch)]
    switches = sum(first != second for first, second in itertools.pairwise(devices))
    assert switches > 5, "the devices took turns as wholes"
    shown = harness("show", "latest").out
    assert "down ✗ connect" in shown
    assert "refused the connection: is sshd running there?" in shown


def test_what_was_pushed_is_not_pushed_again(harness: Command, study: Path, sshd: SshServer) -> None:
    Path("devices.toml").write_text(sshd.entry("board"))
    words = ["run", str(study), "--device", "board", "--variant", "fp16", "--rounds", "1"]
    assert "pushed 3 files, 0.0 MB sent" in harness(*words).err
    sent = [
        event.sent_bytes
        for path in sorted(Path("results/tiny").glob("*/journal.jsonl"))
        for event in journal.read(path)
        if isinstance(event, Pushed)
    ]
    assert sent[0] > 0
    harness(*words)
    (second,) = [
        path
        for path in Path("results/tiny").iterdir()
        if path != min(Path("results/tiny").iterdir(), key=lambda p: p.stat().st_ctime)
    ]
    pushed = [event for event in journal.read(second / "journal.jsonl") if isinstance(event, Pushed)]
    assert pushed[0].sent_bytes == 0


def test_trust_then_run(harness: Command, study: Path, sshd: SshServer) -> None:
    Path("devices.toml").write_text("# mine\n" + sshd.entry("board", host_key=""))
    words = ["run", str(study), "--device", "board", "--variant", "fp16", "--rounds", "1", "--json"]
    refused = harness(*words)
    assert refused.code == 3
    assert "harness device trust board" in refused.json["devices"][0]["trouble"]
    trusted = harness("device", "trust", "board", "--json")
    assert trusted.code == 0
    assert trusted.json["host_key"] == sshd.host_key
    assert Path("devices.toml").read_text().startswith("# mine\n")
    assert harness(*words).code == 0


def test_a_changed_key_is_trusted_only_on_purpose(harness: Command, sshd: SshServer) -> None:
    Path("devices.toml").write_text(sshd.entry("board", host_key=sshd.public("other_key")))
    assert harness("devices").code == 3
    assert harness("device", "trust", "board").code == 3
    assert harness("device", "trust", "board", "--replace").code == 0
    assert registry.load().devices["board"].host_key == sshd.host_key


def test_devices_lists_all_with_state_and_facts(harness: Command, sshd: SshServer) -> None:
    Path("devices.toml").write_text(
        sshd.entry("board")
        + sshd.entry("down", port=closed_port())
        + sshd.entry("stranger", host_key="")
        + sshd.entry("bare", python="/none")
    )
    done = harness("devices", "--json")
    assert done.code == 3
    states = {device["device"]: device["state"] for device in done.json["devices"]}
    assert states == {
        "local": "reachable",
        "board": "reachable",
        "down": "unreachable",
        "stranger": "unknown key",
        "bare": "no runner",
    }
    assert harness("devices").code == 3
    shown = harness("device", "probe", "board")
    assert shown.code == 0
    assert "onnxruntime" in shown.out


def test_ctrl_c_stops_the_job_on_the_board(study: Path, sshd: SshServer) -> None:
    Path("devices.toml").write_text(sshd.entry("board"))
    process = spawn("run", str(study), "--device", "board", "--variant", "fp16", "--rounds", "500", "--json")
    wait_for('"event":"round"')
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert by_device(json.loads(out))["board"]["state"] == "stopped"
    (job,) = (sshd.store / "jobs").iterdir()
    assert (job / "rc").read_text() == "0"
