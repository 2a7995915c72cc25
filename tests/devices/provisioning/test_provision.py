"""Bringing a runtime to a device: what is refused and why, what is tried, and the whole way over a real OpenSSH server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.devices import conversation, registry, startup
from harness.devices import facts as device_facts
from harness.devices.link import Link
from harness.devices.provisioning import provision as provisions
from harness.devices.provisioning.provision import Provisioned, Tried, provision
from harness.errors import DeviceError, RunnerError, UsageError
from tests.wheelhouse import packed, wheelhouse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.devices.device import Device
    from tests.sshd import SshServer

GOOD: dict[str, Any] = {
    "event": "machine",
    "arch": "aarch64",
    "bits": 64,
    "libc": "glibc 2.36",
    "implementation": "cpython",
    "python": [3, 11, 2],
    "abi": "cp311",
}
HASH = "a" * 64


class Scripted:
    """A device at the transport seam: answers each of the agent's commands with given lines."""

    def __init__(self, **answers: dict[str, Any]) -> None:
        self._answers = answers

    def open(self, words: Sequence[str], _step: str) -> ScriptedChannel:
        command = words[4]
        if command == "receive":
            return ScriptedChannel(words, [{"event": "missing", "sha256": []}])
        return ScriptedChannel(words, [{"event": "alive"}, self._answers[command]])

    def close(self) -> None:
        """Nothing is open."""


class ScriptedChannel:
    """One command's answer."""

    status = None

    def __init__(self, words: Sequence[str], said: list[dict[str, Any]]) -> None:
        self._lines = iter([startup.first_line(words) + b"\n", *(json.dumps(line).encode() + b"\n" for line in said)])

    def patience(self, seconds: float | None) -> None:
        """It answers at once."""

    def write(self, data: bytes) -> None:
        """It is all known beforehand."""

    def end(self) -> None:
        """Nobody reads."""

    def lines(self) -> Iterator[bytes]:
        return self._lines

    def close(self) -> str:
        return ""


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Provision a device that gives these answers."""

    def run(version: str | None = None, house: Path | None = None, **answers: dict[str, Any]) -> Provisioned:
        def connect(_device: Device) -> Scripted:
            return Scripted(**answers)

        monkeypatch.setattr(conversation, "connect", connect)
        Path("devices.toml").write_text('[board]\nhost = "board"\n')
        return provision(registry.load().get("board"), version, house)

    return run


@pytest.mark.parametrize(
    ("different", "words"),
    [
        ({"arch": "armv7l", "bits": 32}, "there is no onnxruntime wheel for armv7l: it takes a 64-bit system, x86_64 or aarch64"),
        ({"arch": "riscv64"}, "there is no onnxruntime wheel for riscv64"),
        ({"bits": 32}, "its Python is a 32-bit one, .*: install a 64-bit system"),
        ({"implementation": "pypy"}, "its Python is pypy; onnxruntime's wheels need CPython"),
        (
            {"python": [3, 8, 10]},
            r'its Python is 3\.8\.10; 3\.9 or newer is needed: .*python = "…" for \[board\] in devices\.toml',
        ),
        ({"libc": "musl"}, "its C library is musl; onnxruntime's wheels need glibc"),
        ({"libc": ""}, "its C library is unknown"),
        ({"libc": "glibc 2.16"}, r"its C library is glibc 2\.16; onnxruntime's wheels need glibc 2\.17 or newer"),
    ],
)
def test_a_device_that_no_wheel_fits_is_refused_with_what_it_needs(board: Any, different: dict[str, Any], words: str) -> None:
    with pytest.raises(DeviceError, match=f"^board: provision: {words}") as caught:
        board(machine=GOOD | different)
    assert caught.value.exit == 3


@pytest.mark.parametrize(
    "different",
    [{"arch": "x" * 200}, {"arch": "\x1b[31m"}, {"python": [3]}, {"python": [3, 11, -1]}, {"abi": "../x"}, {"bits": "many"}],
)
def test_an_answer_of_another_shape_is_refused(board: Any, different: dict[str, Any]) -> None:
    with pytest.raises(RunnerError, match="its answer does not follow the protocol"):
        board(machine=GOOD | different)


def test_what_was_asked_for_is_checked_before_the_device_is(board: Any, tmp_path: Path) -> None:
    for version in ("newest", "1.31.1; rm", "--pre", "1"):
        with pytest.raises(UsageError, match="is not a version: write it as"):
            board(version)
    with pytest.raises(UsageError, match="no such folder"):
        board(None, tmp_path / "none")


def test_no_version_that_fits_names_versions_and_tags(board: Any, tmp_path: Path) -> None:
    house = wheelhouse(tmp_path / "house", "1.30.0")
    with pytest.raises(DeviceError) as caught:
        board("1.31.1", house, machine=GOOD)
    assert caught.value.reason == (
        f"no onnxruntime 1.31.1 in {house} fits aarch64, Python 3.11, glibc 2.36 (manylinux_2_36_aarch64 … manylinux2014_aarch64); "
        "what fits: 1.30.0"
    )
    (tmp_path / "empty").mkdir()
    with pytest.raises(DeviceError, match=r"what fits: none$"):
        board(None, tmp_path / "empty", machine=GOOD)


def test_without_an_index_the_wheelhouse_is_named(board: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(DeviceError, match=r"in pip's package index fits aarch64.*give --wheelhouse DIR"):
        board(machine=GOOD)


@pytest.mark.parametrize(
    ("unpacked", "adopted", "words"),
    [
        (HASH, {}, "it unpacked another runtime"),
        (None, {"event": "adopted", "runtime": HASH, "onnxruntime": "1", "numpy": "2"}, "it uses another runtime"),
        (None, {"event": "adopted", "runtime": HASH}, "not follow the protocol: onnxruntime"),
        (None, {"event": "unusable", "message": "x" * 5000}, "not follow the protocol: message"),
        (None, {"event": "hello"}, "expected 'adopted or unusable' from the agent"),
    ],
)
def test_a_device_that_answers_nonsense(
    board: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unpacked: str | None, adopted: dict[str, Any], words: str
) -> None:
    house = wheelhouse(tmp_path / "house", "1.31.1")
    if unpacked is None:
        monkeypatch.setattr(Link, "unpack", lambda _self, hashes: provisions.runtime_hash(hashes))
    with pytest.raises(RunnerError, match=words):
        board(None, house, machine=GOOD, unpack={"event": "unpacked", "runtime": unpacked}, adopt=adopted)


@pytest.mark.long
def test_when_nothing_runs_there_all_that_was_tried_is_told(board: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = wheelhouse(tmp_path / "house", "1.24.4", "1.25.0", "1.30.0")
    monkeypatch.setattr(Link, "unpack", lambda _self, hashes: provisions.runtime_hash(hashes))
    dies = {"event": "unusable", "message": "killed by SIGILL\x1b[2J"}
    with pytest.raises(DeviceError) as caught:
        board(None, house, machine=GOOD, adopt=dies)
    assert "(1.30.0: killed by SIGILL\ufffd[2J; 1.24.4: killed by SIGILL\ufffd[2J)" in caught.value.reason
    assert "--runtime VERSION" in caught.value.reason
    with pytest.raises(DeviceError, match=r"\(1\.30\.0: killed by SIGILL�\[2J\)"):
        board("1.30.0", house, machine=GOOD, adopt=dies)


def test_a_device_without_onnxruntime_is_sent_here() -> None:
    said = {"arch": "aarch64", "cores": 4, "python": "3.11.2", "onnxruntime": {"error": "No module named 'onnxruntime'"}}
    with pytest.raises(RunnerError, match=r"to install it: harness device provision board; or set python"):
        device_facts.usable(device_facts.check(said, "board"), "board", "python3", [])


@pytest.fixture
def bare(sshd: SshServer) -> Device:
    """A device whose Python has nothing but its standard library."""
    return bare_device(sshd)


def bare_device(sshd: SshServer) -> Device:
    python = Path("/usr/bin/python3")
    made = sshd.folder / "bare"
    if not python.exists():
        pytest.skip(f"no {python} for a device without packages")
    if not made.exists():
        words = [str(python), "-m", "venv", "--without-pip", str(made)]
        as_user: dict[str, Any] = {"user": sshd.user, "group": sshd.user, "extra_groups": []} if os.getuid() == 0 else {}
        subprocess.run(words, check=True, cwd="/", env={"PATH": "/usr/bin:/bin"}, **as_user)
    Path("devices.toml").write_text(sshd.entry("bare", python=str(made / "bin" / "python")))
    return registry.load().get("bare")


def facts(device: Device) -> device_facts.Facts:
    link = Link(device)
    try:
        return device_facts.check(link.probe(), device.name)
    finally:
        link.close()


@pytest.mark.ssh
def test_a_bare_device_is_provisioned_and_then_has_onnxruntime(sshd: SshServer, bare: Device, tmp_path: Path) -> None:
    assert "No module named" in str(facts(bare).onnxruntime.error)
    told: list[str] = []
    house = wheelhouse(tmp_path / "house", "1.31.1")
    done = provision(bare, "1.31.1", house, told.append)
    assert (done.onnxruntime, done.numpy, done.tried) == ("1.31.1", "2.4.6", ())
    assert done.sent_bytes == sum(path.stat().st_size for path in house.iterdir())
    assert len(told) == 2
    now = facts(bare)
    assert (now.onnxruntime.version, now.numpy, now.runtime) == ("1.31.1", "2.4.6", done.runtime[:12])
    device_facts.usable(now, "bare", "python3", ["CPUExecutionProvider"])
    (folder,) = [path for path in (sshd.store / "runtimes").iterdir() if path.is_dir()]
    assert (folder.name, folder.owner()) == (done.runtime, sshd.user)


@pytest.mark.ssh
def test_the_second_time_nothing_is_sent(bare: Device, tmp_path: Path) -> None:
    house = wheelhouse(tmp_path / "house", "1.31.1")
    first = provision(bare, "1.31.1", house)
    second = provision(bare, "1.31.1", house)
    assert (second.sent_bytes, second.runtime) == (0, first.runtime)


@pytest.mark.ssh
def test_a_version_that_dies_there_gives_way_to_an_older_one(sshd: SshServer, bare: Device, tmp_path: Path) -> None:
    house = wheelhouse(tmp_path / "house", "1.24.4", "1.19.2", dying=("1.31.1", "1.30.0"))
    done = provision(bare, None, house)
    assert done.onnxruntime == "1.24.4"
    died = "killed by SIGILL; last words: no message"
    assert done.tried == (Tried("1.31.1", died), Tried("1.30.0", died))
    assert done.as_json()["tried"][0] == {"version": "1.31.1", "message": died}
    assert facts(bare).onnxruntime.version == "1.24.4"
    assert len([path for path in (sshd.store / "runtimes").iterdir() if path.is_dir()]) == 1


@pytest.mark.ssh
def test_a_wheel_that_the_device_refuses(bare: Device, tmp_path: Path) -> None:
    house = wheelhouse(tmp_path / "house", "1.31.1")
    numpy = house / "numpy-2.4.6-py3-none-any.whl"
    import zipfile

    with zipfile.ZipFile(numpy) as archive:
        files: dict[str, str | bytes] = {name: archive.read(name) for name in archive.namelist()}
    packed(numpy, {**files, "../../../.bashrc": "echo caught"})
    with pytest.raises(RunnerError, match=r"bare: provision: can't unpack .* it has a member that no wheel should have"):
        provision(bare, "1.31.1", house)


@pytest.mark.ssh
def test_another_python_of_the_same_account_keeps_its_own(sshd: SshServer, bare: Device, tmp_path: Path) -> None:
    provision(bare, "1.31.1", wheelhouse(tmp_path / "house", "1.31.1"))
    Path("devices.toml").write_text(sshd.entry("full"))
    full = facts(registry.load().get("full"))
    assert full.runtime is None
    assert full.numpy != "2.4.6" or full.onnxruntime.providers != ["CPUExecutionProvider"]


@pytest.mark.ssh
def test_no_python_at_all(sshd: SshServer) -> None:
    Path("devices.toml").write_text(sshd.entry("none", python="/none/python3"))
    with pytest.raises(RunnerError, match=r"/none/python3 did not start there .*Python 3\.9 or newer is needed"):
        provision(registry.load().get("none"))


@pytest.mark.parametrize("old", ["(2,7)", "(3,8)"])
def test_the_boot_line_says_when_a_python_is_too_old(old: str) -> None:
    code = startup.BOOT.replace("sys.version_info", old)
    done = subprocess.run([sys.executable, "-c", code, "0.x"], input="", capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == f"it is Python {old[1]}.{old[3]}\n"
