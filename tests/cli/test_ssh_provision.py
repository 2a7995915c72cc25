"""From a device with a bare Python to a measured one."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.devices import registry
from tests.devices.provisioning.test_provision import bare_device
from tests.wheelhouse import wheelhouse

if TYPE_CHECKING:
    from tests.cli.conftest import Command
    from tests.sshd import SshServer

pytestmark = pytest.mark.ssh


def test_the_command_brings_a_runtime(harness: Command, sshd: SshServer, tmp_path: Path) -> None:
    bare_device(sshd)
    house = str(wheelhouse(tmp_path / "house", "1.24.4", dying=("1.30.0",)))
    done = harness("device", "provision", "bare", "--wheelhouse", house, "--json")
    assert done.code == 0, done.err
    assert done.json["onnxruntime"] == "1.24.4"
    assert [tried["version"] for tried in done.json["tried"]] == ["1.30.0"]
    assert "bare: onnxruntime 1.30.0 does not run on the device: killed by SIGILL" in done.err
    done = harness("device", "provision", "bare", "--wheelhouse", house, "--runtime", "1.24.4")
    assert "bare: runs onnxruntime 1.24.4 and numpy 2.4.6 from now on" in done.out
    assert harness("device", "probe", "bare", "--json").json["facts"]["onnxruntime"]["version"] == "1.24.4"
    assert harness("device", "provision", "bare", "--wheelhouse", house, "--runtime", "1.31.1").code == 3
    assert harness("device", "provision", "bare", "--wheelhouse", "/none").code == 2
    assert harness("device", "provision", "nobody").code == 2


@pytest.mark.long
@pytest.mark.slow
def test_a_bare_device_is_provisioned_with_real_wheels_and_measured(
    harness: Command, study: Path, sshd: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare_device(sshd)
    words = ["run", str(study), "--device", "bare", "--variant", "fp16", "--rounds", "2", "--json"]
    monkeypatch.setenv("PIP_RETRIES", "0")
    with monkeypatch.context() as alone:
        alone.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
        before = harness(*words)
    assert before.code == 3
    assert "--wheelhouse DIR" in before.json["devices"][0]["trouble"]
    with monkeypatch.context() as own:
        # pip as this machine's user has set it up; one try is enough to know.
        own.setenv("HOME", pwd.getpwuid(os.getuid()).pw_dir)
        own.setenv("PIP_DEFAULT_TIMEOUT", "20")
        after = harness(*words)
    if "in pip's package index" in after.out:
        pytest.skip(f"pip finds no wheels here: {after.out}")
    assert after.code == 0, after.err
    assert "bare: had no onnxruntime: " in after.err
    (device,) = after.json["devices"]
    version = device["facts"]["onnxruntime"]["version"]
    assert harness("devices", "--device", "bare", "--json").json["devices"][0]["facts"]["runtimes"] == [version]
    assert device["facts"]["executable"] == registry.load().get("bare").python
    assert {row["state"] for row in device["rows"]} == {"measured"}
    assert all(row["median_ms"] > 0 for row in device["rows"])


@pytest.mark.long
@pytest.mark.slow
def test_two_releases_of_onnxruntime_are_brought_with_real_wheels_and_compared(
    harness: Command, study: Path, sshd: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = ["1.31.1", "1.23.2"]
    Path("devices.toml").write_text(sshd.entry("board") + f"runtimes = {json.dumps(versions)}\n")
    monkeypatch.setenv("HOME", pwd.getpwuid(os.getuid()).pw_dir)
    monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "20")
    monkeypatch.setenv("PIP_RETRIES", "0")
    done = harness("run", str(study), "--device", "board", "--variant", "static-QDQ-U8S8", "--rounds", "2", "--json")
    if "where this machine's pip looks" in done.out:
        pytest.skip(f"pip finds no wheels here: {done.out}")
    assert done.code == 0, done.out + done.err
    (device,) = done.json["devices"]
    assert {(row["variant"], row["case"].partition("onnxruntime=")[2], row["state"]) for row in device["rows"]} == {
        (variant, version, "measured") for variant in ("fp32", "static-QDQ-U8S8") for version in versions
    }
    assert all(row["median_ms"] > 0 for row in device["rows"])
