from __future__ import annotations

from pathlib import Path

import pytest

from harness.devices import registry
from harness.devices.device import Device
from harness.errors import RegistryError, ResultsError
from harness.workflow import resume

# As run.json has it: without anything of the devices.toml that it came from.
RECORDED = Device.model_validate_json(
    Device(name="board", host="10.0.0.7", port=22, jump="old-gate", host_key="ssh-ed25519 AAAA", cpus=[1]).model_dump_json()
)


def reached(toml: str) -> Device:
    Path("devices.toml").write_text(toml)
    return resume._reached(RECORDED, registry.load())


def test_a_device_of_a_run_is_reached_as_the_registry_says_now() -> None:
    now = reached('[board]\nhost = "10.0.0.7"\nport = 2222\njump = "gate"\ncpus = [0]\n[gate]\nhost = "g"\n')
    assert (now.port, now.jump, now.cpus) == (2222, "gate", [1])
    assert now.origin.jump == Device(name="gate", host="g")


def test_a_device_that_is_gone_from_the_registry_is_reached_as_recorded() -> None:
    now = reached('[old-gate]\nhost = "g"\n')
    assert (now.port, now.origin.jump) == (22, Device(name="old-gate", host="g"))
    with pytest.raises(RegistryError, match=r"devices\.toml: 'board\.jump': 'old-gate' is not another device"):
        reached("")


def test_another_host_key_is_another_device() -> None:
    with pytest.raises(ResultsError, match=r"'board' has another host key"):
        reached('[board]\nhost = "10.0.0.7"\nhost_key = "ssh-ed25519 BBBB"\n')
