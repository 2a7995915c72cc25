"""From a host name to an entry of devices.toml, against a real OpenSSH server."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.devices import registry
from tests.cli.test_ssh_run import closed_port
from tests.devices.transports.test_ssh_config import block, config, known_hosts, logins

if TYPE_CHECKING:
    from tests.cli.conftest import Command
    from tests.sshd import SshServer

ssh = pytest.mark.ssh


def words(sshd: SshServer, name: str = "rpi", **other: str) -> list[str]:
    options = {
        "--user": sshd.user,
        "--port": str(sshd.port),
        "--identity-file": str(sshd.identity),
        "--python": sshd.python,
    } | other
    return ["device", "add", name, "127.0.0.1", *(word for key, value in options.items() if value for word in (key, value))]


@ssh
def test_what_comes_next_names_a_registry_that_is_elsewhere(harness: Command, sshd: SshServer) -> None:
    done = harness(*words(sshd), "--registry", "the lab.toml")
    assert done.code == 0, done.err
    assert done.out.endswith("next: harness run --device rpi --registry 'the lab.toml'\n")


@ssh
def test_a_device_is_added_with_its_new_key(harness: Command, sshd: SshServer) -> None:
    done = harness(*words(sshd), "--tag", "arm64", "--tag", "lab")
    assert done.code == 0, done.err
    assert "rpi: host key: ssh-ed25519 SHA256:" in done.out
    assert "(new; compare it with" in done.out
    assert "rpi: written to devices.toml" in done.out
    assert done.out.endswith("next: harness run --device rpi\n")
    assert tomllib.loads(Path("devices.toml").read_text()) == {
        "rpi": {
            "host": "127.0.0.1",
            "user": sshd.user,
            "port": sshd.port,
            "identity_file": str(sshd.identity),
            "host_key": sshd.host_key,
            "python": sshd.python,
            "tags": ["arm64", "lab"],
        }
    }
    assert harness("device", "probe", "rpi").code == 0


@ssh
def test_comments_and_other_devices_stay_and_json_tells_all(harness: Command, sshd: SshServer) -> None:
    file = Path("lab.toml")
    file.write_text("# mine\n[other]\nhost = 'h'   # in the rack\n")
    done = harness(*words(sshd), "--registry", "lab.toml", "--json")
    assert done.code == 0, done.err
    assert done.json["registry"] == "lab.toml"
    assert done.json["host_key"] == sshd.host_key
    assert (done.json["known"], done.json["python"]) == (False, sshd.python)
    assert done.json["facts"]["onnxruntime"]["version"]
    assert file.read_text().startswith("# mine\n[other]\nhost = 'h'   # in the rack\n\n[rpi]\n")
    assert not Path("devices.toml").exists()


@ssh
def test_an_alias_is_enough(harness: Command, sshd: SshServer) -> None:
    config(block("rpi4", sshd))
    known_hosts(sshd)
    done = harness("device", "add", "rpi", "rpi4", "--python", sshd.python)
    assert done.code == 0, done.err
    assert "(as in known_hosts)" in done.out
    assert tomllib.loads(Path("devices.toml").read_text()) == {
        "rpi": {"host": "rpi4", "host_key": sshd.host_key, "python": sshd.python}
    }


@ssh
def test_through_another_device(harness: Command, sshd: SshServer) -> None:
    Path("devices.toml").write_text(sshd.entry("gate"))
    assert harness(*words(sshd, **{"--jump": "gate"})).code == 0
    assert registry.load().devices["rpi"].jump == "gate"
    refused = harness(*words(sshd, "rpi2", **{"--jump": "gat"}))
    assert refused.code == 2
    assert "'rpi2.jump': 'gat' is not another device" in refused.err


@ssh
def test_a_python_is_found(harness: Command, sshd: SshServer) -> None:
    done = harness(*words(sshd, **{"--python": ""}), "--json")
    assert done.code == 0, done.err
    assert done.json["python"].startswith("python3")
    assert done.json["facts"]["executable"] != ""
    if done.json["facts"]["onnxruntime"]["version"] is None:
        assert done.json["next"] == "harness device provision rpi"


@ssh
def test_the_first_python_with_onnxruntime_is_preferred(sshd: SshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.devices import add

    old, bare = sshd.folder / "old-python", sshd.folder / "bare-python"
    old.write_text('#!/bin/sh\necho \'{"python": "\'$0\'", "version": [3, 8, 10], "onnxruntime": true}\'\n')
    bare.write_text('#!/bin/sh\necho Welcome\necho \'{"python": "\'$0\'", "version": [3, 12, 1], "onnxruntime": false}\'\n')
    for path in (old, bare):
        path.chmod(0o755)
    Path("devices.toml").write_text(sshd.entry("board", python=""))
    known = registry.load()
    monkeypatch.setattr(add, "PYTHONS", ("/none", str(old), str(bare), sshd.python))
    assert add._python(known.get("board")) == sshd.python
    monkeypatch.setattr(add, "PYTHONS", ("/none", str(old), str(bare)))
    assert add._python(known.get("board")) == str(bare)


@ssh
@pytest.mark.parametrize(
    ("other", "code", "said"),
    [
        ({"--port": "closed"}, 3, "refused the connection: is sshd running there?"),
        ({"--identity-file": "other_key"}, 3, "refused the login"),
        ({"--identity-file": "/none"}, 2, "identity_file /none: no such file"),
        ({"--password-env": "NOT_SET"}, 2, "environment variable NOT_SET"),
        ({"--python": "/none"}, 3, "no Python 3.9 or newer as /none"),
        ({"--user": "a b", "--python": "/bin/echo"}, 3, "refused the login"),
    ],
)
def test_what_can_not_be_added_is_not_written(
    harness: Command, sshd: SshServer, other: dict[str, str], code: int, said: str
) -> None:
    if other.get("--port") == "closed":
        other = {"--port": str(closed_port())}
    if other.get("--identity-file") == "other_key":
        other = {"--identity-file": str(sshd.folder / "other_key")}
    done = harness(*words(sshd, **other))
    assert done.code == code
    assert said in done.err
    assert not Path("devices.toml").exists()


@ssh
def test_an_old_python_is_named(harness: Command, sshd: SshServer) -> None:
    old = sshd.folder / "python3.8"
    old.write_text('#!/bin/sh\necho \'{"python": "\'$0\'", "version": [3, 8, 10], "onnxruntime": true}\'\n')
    old.chmod(0o755)
    done = harness(*words(sshd, **{"--python": str(old)}))
    assert done.code == 3
    assert f"({old} is Python 3.8.10)" in done.err


@ssh
def test_a_key_that_known_hosts_contradicts_is_refused(harness: Command, sshd: SshServer) -> None:
    path = known_hosts(sshd)
    path.write_text(f"[127.0.0.1]:{sshd.port} {sshd.public('other_key')}\n")
    before = logins(sshd)
    done = harness(*words(sshd))
    assert done.code == 3
    assert f"ssh-keygen -R '[127.0.0.1]:{sshd.port}'" in done.err
    assert logins(sshd) == before
    assert not Path("devices.toml").exists()


def test_a_name_that_is_taken_is_refused_before_anything_is_asked(harness: Command) -> None:
    Path("devices.toml").write_text('# mine\n[rpi]\nhost = "h"\n')
    done = harness("device", "add", "rpi", "board.invalid")
    assert done.code == 2
    assert "devices.toml:2: there is already a device 'rpi'" in done.err
    done = harness("device", "add", "local", "board.invalid")
    assert done.code == 2
    assert "'local' is the name of this machine" in done.err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["bad name", "host"], "name: "),
        (["rpi", "two words"], "is not a host"),
        (["rpi", "pi@host", "--user", "root"], "the user is given both in 'pi@host' and by --user"),
        (["rpi", "host:2222", "--port", "22"], "the port is given both in 'host:2222' and by --port"),
        (["rpi", "host:99999"], "its port must be a number from 1 to 65535"),
    ],
)
def test_what_can_not_be_an_entry(harness: Command, given: list[str], said: str) -> None:
    done = harness("device", "add", *given)
    assert done.code == 2
    assert said in done.err
    assert not Path("devices.toml").exists()
