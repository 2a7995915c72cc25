"""``cpus`` in devices.toml: cores that a device does not have are refused before anything is brought there, and no other core is measured instead."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.devices import facts as device_facts
from harness.devices import program, registry
from harness.devices.device import Device
from harness.errors import EntryError, RegistryError
from tests import account
from tests.cli.struck import opened
from tests.sshd import BASH, SshServer

if TYPE_CHECKING:
    from tests.cli.conftest import Command

HERE = sorted(os.sched_getaffinity(0))
NOT_HERE = 4000


def entry(server: SshServer, cpus: list[int], name: str = "board") -> str:
    return server.entry(name) + f"cpus = {cpus}\n"


@pytest.mark.ssh
@pytest.mark.parametrize("cpus", [[NOT_HERE], [HERE[0], NOT_HERE]])
def test_cores_that_are_not_there_are_that_devices_fault(harness: Command, study: Path, sshd: SshServer, cpus: list[int]) -> None:
    Path("devices.toml").write_text(entry(sshd, cpus))
    done = harness("run", str(study), "--device", "board", "--variant", "fp16", "--rounds", "1", "--json")
    assert done.code == 3
    here = device_facts.spans(HERE)
    words = f"cpus: cpus of [board] in devices.toml names core {NOT_HERE}, but a job there can use only {here}: correct cpus"
    assert done.json["devices"][0]["trouble"] == words
    assert not (sshd.store / "jobs").exists()
    pushed = sum(path.stat().st_size for path in (sshd.store / "blobs" / "sha256").iterdir())
    assert pushed < 200_000, "only the programs that ask what the device is"
    listed = harness("devices", "--json").json
    (found,) = [device for device in listed["devices"] if device["device"] == "board"]
    assert (found["state"], found["error"]) == ("wrong entry", f"board: {words}")


@pytest.mark.ssh
def test_a_core_that_the_account_is_not_pinned_to_now_can_be_used() -> None:
    if len(HERE) == 1:
        pytest.skip("this machine has one core")
    with account.server(BASH, {".bashrc": f"taskset -pc {HERE[0]} $$ >/dev/null\n"}) as board:
        Path("devices.toml").write_text(entry(board, HERE[1:2]))
        with opened() as link:
            facts = device_facts.fitting(link.probe(), link.device)
    assert facts.cores == 1
    assert facts.cpus == HERE


@pytest.mark.parametrize(
    ("cpus", "words"),
    [("[]", "the list is empty"), ("[0, 0, 1]", "it names core 0 more than once"), ("[-1]", "greater than or equal to 0")],
)
def test_a_choice_that_is_none_is_refused_with_its_line(cpus: str, words: str) -> None:
    Path("devices.toml").write_text(f'[board]\nhost = "x"\ncpus = {cpus}\n')
    with pytest.raises(RegistryError, match=rf"devices\.toml:3: .*{words}"):
        registry.load().get("board")


def test_a_device_that_does_not_say_its_cores_is_not_refused() -> None:
    said = {"arch": "x86_64", "cores": 2, "python": "3.11.2", "onnxruntime": {}}
    device = Device(name="board", host="x", cpus=[3])
    assert device_facts.fitting(said, device).cpus == []
    with pytest.raises(EntryError, match=r"names core 3, but a job there can use only cores 0-1 and 5"):
        device_facts.fitting(said | {"cpus": [0, 1, 5]}, device)


def test_the_prober_says_which_cores_can_be_used_and_stays_where_it_is(tmp_path: Path) -> None:
    runner = tmp_path / "runner.py"
    runner.write_text("print('{}')\n")
    code = f"import os, runpy, sys; os.sched_setaffinity(0, [{HERE[0]}]); sys.argv[1:] = [{str(runner)!r}]; import atexit; "
    code += f"atexit.register(lambda: print(sorted(os.sched_getaffinity(0)))); runpy.run_path({str(program.prober())!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    facts, after = done.stdout.splitlines()
    assert json.loads(facts)["cpus"] == HERE
    assert json.loads(after) == HERE[:1]
