"""A good board on a real server beside one whose entry, or whose ssh_config, is wrong: that costs the wrong one alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.sshd import SshServer

pytestmark = [pytest.mark.ssh, pytest.mark.faults]

# What is wrong with an entry, by what the message must say.
WRONG = {
    "unknown key 'bad.prot'; did you mean 'port'?": {"prot": 22},
    "'bad.port': input should be less than or equal to 65535": {"port": 99999},
    "'bad.connect_time': a duration must be": {"connect_time": "soon"},
    "'bad' has no host": {"host": ""},
    "host_key is a key type and a key": {"host_key": "AAAA"},
    "'bad.host_key': not a ssh-ed25519 public key": {"host_key": "ssh-ed25519 AAAA"},
    "'bad.host_key': not a ssh-nonsense public key": {"host_key": "ssh-nonsense AAAAC3NzaC1lZDI1NTE5AAAAIA=="},
    "'bad.jump': 'nosuch' is not another device": {"jump": "nosuch"},
    "'bad.jump': 'bad' is not another device": {"jump": "bad"},
    "'bad.jump': 'local' is not another device": {"jump": "local"},
    "identity_file /none": {"identity_file": "/none"},
    "identity_file /tmp": {"identity_file": "/tmp"},
    "the environment variable NO_SUCH_PASSWORD (password_env) is not set": {"password_env": "NO_SUCH_PASSWORD"},
    "'a b' is not a host": {"host": "a b"},
}


@pytest.fixture
def lab(sshd: SshServer) -> Path:
    """The good board's entry, to which a test adds another."""
    file = Path("devices.toml")
    file.write_text(sshd.entry("good"))
    return file


@pytest.mark.parametrize(("words", "keys"), WRONG.items(), ids=WRONG.keys())
def test_devices_shows_the_good_board_and_what_is_wrong_with_the_other(
    harness: Command, sshd: SshServer, lab: Path, words: str, keys: dict[str, str | int]
) -> None:
    lab.write_text(sshd.entry("bad", **keys) + lab.read_text())
    done = harness("devices", "--device", "bad", "--device", "good")
    states = {line.split()[0]: line.split()[1] for line in done.out.splitlines() if line.split()[:1] in (["good"], ["bad"])}
    assert states == {"good": "reachable", "bad": "wrong"}, done.out
    assert done.code == 3
    assert words in done.err
    assert "devices.toml:" in done.err or "no host" in words or "is not a host" in words
    assert done.err.startswith("harness: bad: entry: ")
    # Everything else goes on as if it were not there.
    assert harness("device", "probe", "good").code == 0


def test_devices_as_json(harness: Command, sshd: SshServer, lab: Path) -> None:
    lab.write_text(sshd.entry("bad", prot=22, tags="") + lab.read_text())
    found = {device["device"]: device for device in harness("devices", "--json").json["devices"]}
    assert {name: device["state"] for name, device in found.items()} == {
        "local": "reachable", "bad": "wrong entry", "good": "reachable",
    }  # fmt: skip
    assert found["bad"]["error"].startswith("bad: entry: devices.toml:")
    assert found["bad"]["facts"] is None
    assert found["good"]["error"] is None


def test_a_damaged_line_of_ssh_config_costs_only_whom_it_concerns(harness: Command, sshd: SshServer, lab: Path) -> None:
    folder = Path("~/.ssh").expanduser()
    folder.mkdir()
    (folder / "config").write_text("Host rack-7\n  Port twenty-two\n")
    lab.write_text(sshd.entry("bad", host="rack-7", port="") + lab.read_text())
    done = harness("devices", "--json")
    found = {device["device"]: device for device in done.json["devices"]}
    assert (done.code, found["good"]["state"], found["bad"]["state"]) == (3, "reachable", "wrong entry")
    assert ".ssh/config" in found["bad"]["error"]
    refused = harness("run", "--device", "good", "--device", "bad")
    assert refused.code == 2
    assert "bad: entry: " in refused.err
    assert ".ssh/config" in refused.err


@pytest.mark.parametrize("command", ["run", "check"])
def test_what_is_wrong_with_selected_devices_is_refused_at_once_and_all_of_it(
    harness: Command, sshd: SshServer, lab: Path, study: Path, command: str
) -> None:
    lab.write_text(
        lab.read_text()
        + sshd.entry("typo", prot=22)
        + sshd.entry("jumps", jump="nosuch")
        + sshd.entry("keyed", host_key="ssh-ed25519 AAAA")
        + sshd.entry("unused", jumpp="x")
    )
    words = [command, str(study), *(["--baseline", str(study / "model.onnx")] if command == "check" else [])]
    for name in ("good", "typo", "jumps", "keyed"):
        words += ["--device", name]
    done = harness(*words)
    assert done.code == 2
    lines = done.err.splitlines()
    assert all(line.startswith("harness: ") for line in lines), done.err
    text = lab.read_text().splitlines()
    for key, told in (("prot", "unknown key 'typo.prot'"), ("jump", "'jumps.jump'"), ("host_key", "'keyed.host_key'")):
        number = 1 + text.index(next(line for line in text if line.startswith(f"{key} = ") and sshd.host_key not in line))
        assert sum(f"devices.toml:{number}: {told}" in line for line in lines) == 1, (told, done.err)
    assert "unused" not in done.err
    # Nothing was made, nothing was sent.
    assert not Path("results").exists()
    assert not sshd.store.exists()


@pytest.mark.faults
@pytest.mark.parametrize("command", ["run", "check"])
def test_a_wrong_entry_that_is_not_selected_costs_a_warning(
    harness: Command, sshd: SshServer, lab: Path, study: Path, command: str
) -> None:
    lab.write_text(lab.read_text() + sshd.entry("typo", prot=22) + sshd.entry("keyed", host_key="ssh-ed25519 AAAA"))
    words = [command, str(study), "--variant", "fp32", "--max-time", "10m", "--device", "good", "--json"]
    words += ["--baseline", str(study / "model.onnx")] if command == "check" else []
    done = harness(*words)
    assert done.code in {0, 4}, done.err
    assert done.json["devices"][0]["state"] == "measured"
    assert [line for line in done.err.splitlines() if "typo" in line] == [
        "harness: warning: devices.toml:15: unknown key 'typo.prot'; did you mean 'port'?"
    ]
    # Nobody looks at the host key of a device that is not used.
    assert "keyed" not in done.err


def test_commands_for_one_device_pass_over_the_others(harness: Command, sshd: SshServer, lab: Path) -> None:
    wrong = "[typo]\nprot = 22   # kept as it is\n"
    lab.write_text(wrong + lab.read_text().replace(f'host_key = "{sshd.host_key}"\n', ""))
    warning = "harness: warning: devices.toml:"
    for words in (("trust", "good"), ("probe", "good"), ("release", "good")):
        done = harness("device", *words)
        assert done.code == 0, done.err
        assert warning in done.err
    done = harness(
        "device",
        "add",
        "new",
        f"{sshd.user}@127.0.0.1:{sshd.port}",
        "--identity-file",
        str(sshd.identity),
        "--python",
        sshd.python,
    )
    assert done.code == 0, done.err
    assert lab.read_text().startswith(wrong)
    assert "[new]" in lab.read_text()
    for words in (("trust", "typo"), ("probe", "typo"), ("release", "typo"), ("provision", "typo")):
        done = harness("device", *words)
        assert done.code == 2
        assert "devices.toml:2: unknown key 'typo.prot'; did you mean 'port'?" in done.err
    assert "there is already a device 'typo'" in harness("device", "add", "typo", "h").err


def test_trust_mends_a_host_key_that_is_none(harness: Command, sshd: SshServer, lab: Path) -> None:
    lab.write_text(sshd.entry("bad", host_key="ssh-ed25519 AAAA"))
    assert harness("device", "trust", "bad", "--replace").code == 0
    assert harness("devices", "--device", "bad").code == 0
