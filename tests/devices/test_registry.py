from __future__ import annotations

from pathlib import Path

import pytest

from harness.devices import registry
from harness.devices.device import Device
from harness.errors import RegistryError, SelectionError

TEXT = """\
# the lab's boards
[rpi4]
host = "rpi4.lab"   # in the rack
tags = ["arm64", "cortex-a72"]

[rpi5]
host = "rpi5.lab"
tags = ["arm64"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "devices.toml"
    path.write_text(TEXT)
    return path


def test_local_is_always_there() -> None:
    found = registry.load()
    assert list(found.devices) == ["local"]
    assert found.path is None
    assert found.devices["local"].transport == "local"


def test_the_file_is_found_beside_the_user_or_by_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DEVICES", str(file))
    assert list(registry.load().devices) == ["local", "rpi4", "rpi5"]
    monkeypatch.delenv("HARNESS_DEVICES")
    Path("devices.toml").write_text(TEXT)
    assert registry.load().path == Path("devices.toml")


def test_select_by_name_and_tag_each_once_in_order(file: Path) -> None:
    found = registry.load(file)
    assert [device.name for device in found.select(["@arm64", "local", "rpi4"])] == ["local", "rpi4", "rpi5"]


@pytest.mark.parametrize(
    ("selector", "words"),
    [
        ("rpi-4", "did you mean 'rpi4'?"),
        ("@arm", "did you mean 'arm64'?"),
        ("zzz", "known: local, rpi4"),
        ("@", "'@' names no tag: write @TAG; known: arm64"),
    ],
)
def test_an_unknown_selector_names_the_nearest(file: Path, selector: str, words: str) -> None:
    with pytest.raises(SelectionError, match=words.replace("?", r"\?")):
        registry.load(file).select([selector])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[rpi4]\nhost = "h"\nprot = 22\n', "devices.toml:3: unknown key 'rpi4.prot'; did you mean 'port'?"),
        ("[rpi4]\n", "devices.toml:1: 'rpi4': 'rpi4' has no host"),
        (
            '[rpi4]\nhost = "h"\nport = 99999\n',
            "devices.toml:3: 'rpi4.port': input should be less than or equal to 65535, not 99999",
        ),
        ('[rpi4]\nhost = "h"\nhost_key = "AAAA"\n', "host_key is a key type and a key"),
        ('[rpi4]\nhost = "h"\nemulated = "yes"\n', "devices.toml:3: 'rpi4.emulated'"),
        ('[rpi4]\nhost = "h"\nmemory = "4KB"\n', "'rpi4.memory': 4000 bytes is too small: the smallest value is 1 MiB"),
        ('[rpi4]\nhost = "h"\nruntimes = ["latest"]\n', "'latest' is not a version of onnxruntime: write it as \"1.23.2\""),
        (
            '[rpi4]\nhost = "h"\nsilence_time = "1ms"\n',
            "'rpi4.silence_time': 0.001 s is too short, because a busy device can be silent for that long",
        ),
        ('[rpi4]\nhost = "h"\npython = ""\n', "'rpi4.python': string should have at least 1 character"),
        ('rpi4 = "host"\n', "devices.toml:1: 'rpi4' is not a device: write it as a table, [rpi4]"),
        ('["bad name"]\nhost = "h"\n', "a name has at most 100 letters"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "devices.toml"
    path.write_text(text)
    with pytest.raises(RegistryError) as caught:
        registry.load(path).select(["rpi4"] if "rpi4" in text else ["bad name"])
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[rpi4\n", "not valid TOML"),
        ("[a]\n[a]\n", "not valid TOML"),
        (f"a = {'[' * 5000}", "not valid TOML"),
        (f"a = {'9' * 5000}", "not valid TOML"),
    ],
)
def test_a_file_that_is_no_toml_costs_all_devices(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "devices.toml"
    path.write_text(text)
    with pytest.raises(RegistryError) as caught:
        registry.load(path)
    assert f"{path}: {words}" in str(caught.value)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "devices.toml"
    path.write_bytes(b'\xef\xbb\xbf[rpi4]\r\nhost = "h"\r\nport = "x"\r\n')
    assert "devices.toml:3: 'rpi4.port'" in registry.load(path).wrong[0].fault


def test_a_file_without_end_is_refused() -> None:
    with pytest.raises(RegistryError, match=r"^/dev/zero: not a regular file; copy its content into a regular file"):
        registry.load(Path("/dev/zero"))


WRONG = {
    "a host with a line break": 'host = "a\\nb"',
    "a user with a zero": 'host = "h"\nuser = "a\\u0000b"',
    "no user": 'host = "h"\nuser = ""',
    "a Python with a zero": 'host = "h"\npython = "a\\u0000b"',
    "no key": 'host = "h"\nidentity_file = ""',
    "a key with a zero": 'host = "h"\nidentity_file = "/a\\u0000b"',
    "no jump host": 'host = "h"\njump = ""',
    "no variable": 'host = "h"\npassword_env = ""',
    "an unknown key": 'host = "h"\nprot = 22',
    "no host": "port = 22",
    "another type": 'host = ["h"]',
    "text for a number": 'host = "h"\nport = "ssh"',
    "a table in it": 'host = "h"\n[rpi4.more]\nx = 1',
    "a key with a line break": 'host = "h"\n"a\\nb" = 1',
    "more bytes than a float holds": f'host = "h"\nquota = "{"9" * 400}GB"',
    "more seconds than a float holds": f'host = "h"\nconnect_time = "{"9" * 400}m"',
    "a date": 'host = "h"\nconnect_time = 2020-01-01',
    "this machine with a host": 'transport = "local"\nhost = "h"',
    "this machine with a key": 'transport = "local"\nidentity_file = "/k"',
    "not a number": 'host = "h"\nconnect_time = nan',
    "a jump host that is no device": 'host = "h"\njump = "rpi9"',
    "itself as the jump host": 'host = "h"\njump = "rpi4"',
    "this machine as the jump host": 'host = "h"\njump = "local"',
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_entry_costs_only_its_own_device(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "devices.toml"
    path.write_text(f'[rpi3]\nhost = "a"\ntags = ["lab"]\n[rpi4]\ntags = ["lab"]\n{wrong}\n[rpi5]\nhost = "b"\n')
    found = registry.load(path)
    assert list(found.entries) == ["local", "rpi3", "rpi4", "rpi5"]
    assert [device.name for device in found.select(["rpi3", "rpi5", "local"])] == ["local", "rpi3", "rpi5"]
    assert [entry.name for entry in found.wrong] == ["rpi4"]
    assert f"{path}:" in found.wrong[0].fault
    # A tag means it too, so that nobody believes that it was measured.
    for selectors in (["rpi4"], ["@lab"]):
        with pytest.raises(RegistryError, match="rpi4"):
            found.select(selectors)
    assert [entry.name for entry in found.choose(["@lab"])] == ["rpi3", "rpi4"]


@pytest.mark.parametrize("said", ["rpi4 = 3", "[rpi4]\nx = 1", "[[rpi4]]"])
def test_all_wrong_entries_that_are_selected_are_named_at_once(tmp_path: Path, said: str) -> None:
    path = tmp_path / "devices.toml"
    path.write_text(f"{said}\n[rpi5]\nport = 0\n")
    with pytest.raises(RegistryError, match=r"(?s)'rpi4.*'rpi5") as caught:
        registry.load(path).select(["rpi5", "rpi4"])
    assert "unforeseen" not in str(caught.value)


def test_this_machine_can_have_a_wrong_entry_too(tmp_path: Path) -> None:
    path = tmp_path / "devices.toml"
    path.write_text('[local]\ncpu = [0]\n[rpi4]\nhost = "h"\n')
    found = registry.load(path)
    assert found.get("rpi4").host == "h"
    with pytest.raises(RegistryError, match="did you mean 'cpus'"):
        found.get("local")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"none\.toml: no such file"):
        registry.load(tmp_path / "none.toml")


def test_passwords_have_no_place_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "devices.toml"
    path.write_text('[rpi4]\nhost = "h"\npassword = "secret"\n')
    with pytest.raises(RegistryError, match=r"unknown key 'rpi4\.password'; did you mean 'password_env'\?"):
        registry.load(path).get("rpi4")


def test_a_device_holds_the_devices_that_it_is_reached_through(tmp_path: Path) -> None:
    path = tmp_path / "devices.toml"
    path.write_text('[rpi4]\nhost = "a"\njump = "inner"\n[inner]\nhost = "b"\njump = "outer"\n[outer]\nhost = "c"\n')
    inner = registry.load(path).get("rpi4").origin.jump
    assert inner is not None
    assert (inner.name, inner.origin.jump, inner.origin.where("inner", "jump")) == (
        "inner",
        Device(name="outer", host="c"),
        f"{path}:6",
    )
    # How it is reached is no part of what is written down of it.
    assert "origin" not in registry.load(path).get("rpi4").model_dump_json()


def test_a_jump_host_that_is_wrong_costs_those_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "devices.toml"
    path.write_text('[rpi4]\nhost = "a"\njump = "gate"\n[gate]\nprot = 22\n[rpi5]\nhost = "b"\n')
    found = registry.load(path)
    assert list(found.devices) == ["local", "rpi5"]
    with pytest.raises(
        RegistryError,
        match=r"devices\.toml:3: 'rpi4\.jump': the entry of 'gate' is wrong:\n.*devices\.toml:5: unknown key 'gate\.prot'",
    ):
        found.get("rpi4")


def test_jump_hosts_in_a_circle_cost_those_behind_them(tmp_path: Path) -> None:
    path = tmp_path / "devices.toml"
    hosts = {"rpi4": "one", "one": "two", "two": "three", "three": "one"}
    path.write_text("".join(f'[{name}]\nhost = "h"\njump = "{jump}"\n' for name, jump in hosts.items()) + '[rpi5]\nhost = "b"\n')
    found = registry.load(path)
    assert list(found.devices) == ["local", "rpi5"]
    with pytest.raises(RegistryError, match=r"devices\.toml:12: 'three\.jump' goes in a circle: one → two → three → one"):
        found.get("rpi4")
