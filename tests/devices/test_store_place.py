"""Where a device's store is: a place that can't be used is named before anything is brought there, and ``store`` in devices.toml moves it."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.devices import registry
from harness.devices.link import Link
from harness.devices.provisioning import provision, wheels
from harness.errors import DeviceError, RegistryError
from tests import account
from tests.cli.struck import opened
from tests.sshd import SshServer

if TYPE_CHECKING:
    from tests.cli.conftest import Command

pytestmark = [pytest.mark.ssh, pytest.mark.faults]
root_only = pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a file system or give a folder away")
NEXT = r'; set store = "/a/folder" for \[board\] in devices\.toml to one that the account can use$'


@pytest.fixture(scope="module")
def own() -> Iterator[SshServer]:
    """A server that names no store: it is below the home."""
    with account.server() as made:
        made.restart(f"SetEnv HOME={made.folder}/home")
        yield made


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """An empty file system at a folder, the folder's owner's."""
    folder.mkdir(exist_ok=True)
    owner = folder.parent.stat()
    words = [
        "mount",
        "-t",
        "tmpfs",
        "-o",
        f"size=64m,uid={owner.st_uid},gid={owner.st_gid},mode=755,{options}",
        "none",
        str(folder),
    ]
    subprocess.run(words, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def entry(server: SshServer, **keys: str | int) -> None:
    Path("devices.toml").write_text(server.entry("board", **keys))


def refused(server: SshServer, words: str, **keys: str | int) -> None:
    """Every command that would bring something there says so at once."""
    entry(server, **keys)
    for ask in (Link.probe, Link.machine, lambda link: link.push({})):
        with opened() as link, pytest.raises(DeviceError, match=words):
            ask(link)


def test_it_is_below_the_home(own: SshServer) -> None:
    entry(own)
    with opened() as link:
        link.probe()
    assert (own.folder / "home" / ".cache" / "quant-harness" / "blobs").is_dir()


@root_only
def test_a_read_only_home_is_named(own: SshServer) -> None:
    with mounted(own.folder / "home", "ro"):
        refused(
            own,
            rf"the store {own.folder}/home/\.cache/quant-harness can't be made: the file system of {own.folder}/home is read-only{NEXT}",
        )


@root_only
def test_a_store_that_became_read_only_is_named(own: SshServer) -> None:
    entry(own)
    with mounted(own.folder / "home", "rw"):
        with opened() as link:
            link.probe()
        subprocess.run(["mount", "-o", "remount,ro", str(own.folder / "home")], check=True)
        refused(own, rf"the store .* can't be written: the file system of .* is read-only{NEXT}")


@root_only
def test_a_home_that_belongs_to_root_is_named(own: SshServer) -> None:
    home = own.folder / "home"
    before = home.stat()
    subprocess.run(["rm", "-rf", home / ".cache"], check=True)
    os.chown(home, 0, 0)
    try:
        refused(
            own,
            rf"can't be made: the account {own.user} may not write to {home}, which belongs to root \(mode 755, Permission denied\){NEXT}",
        )
    finally:
        os.chown(home, before.st_uid, before.st_gid)


def test_a_home_that_is_not_there_is_named() -> None:
    with account.server() as board:
        board.restart("SetEnv HOME=/none/at/all")
        refused(board, rf"the account has no home folder: /none/at/all does not exist{NEXT}")
        entry(board, store=str(board.folder / "elsewhere"))
        with opened() as link:
            assert link.probe()["event"] == "facts"


@root_only
def test_noexec_is_named_before_anything_is_fetched_or_pushed(
    own: SshServer, harness: Command, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "fetch", lambda *_: pytest.fail("wheels are fetched in vain"))
    base = subprocess.run([own.python, "-c", "import sys; print(sys.base_prefix)"], capture_output=True, text=True, check=True)
    with mounted(own.folder / "home", "noexec"):
        words = f"onnxruntime can't be loaded from the store {own.folder}/home/.cache/quant-harness: the file system at {own.folder}/home is mounted noexec"
        entry(own, python=f"{base.stdout.strip()}/bin/python3")
        done = harness("run", str(study), "--device", "board", "--variant", "fp16", "--rounds", "1", "--json")
        assert done.code == 3
        assert done.json["devices"][0]["trouble"].startswith(f"provision: {words}; set store = ")
        with pytest.raises(DeviceError, match="is mounted noexec"):
            provision.provision(registry.load().get("board"))
        pushed = list((own.folder / "home").rglob("blobs/sha256/*"))
        assert sum(path.stat().st_size for path in pushed) < 200_000, "only the programs that ask"
        elsewhere = own.folder / "elsewhere"
        entry(own, python=f"{base.stdout.strip()}/bin/python3", store=str(elsewhere))
        with opened() as link:
            assert link.machine()["event"] == "machine"


@root_only
def test_noexec_is_no_matter_where_python_has_onnxruntime_itself(own: SshServer, harness: Command, study: Path) -> None:
    with mounted(own.folder / "home", "noexec"):
        entry(own)
        done = harness("run", str(study), "--device", "board", "--variant", "fp16", "--rounds", "1", "--json")
    assert done.code == 0, done.err


@pytest.mark.parametrize("name", ["data", "data bench/it's $HOME; touch x", "dätä"])
def test_store_wins_and_is_made_for_its_owner_alone(sshd: SshServer, name: str) -> None:
    place = sshd.folder / "stores" / name
    entry(sshd, store=str(place))
    with opened() as link:
        assert link.probe()["event"] == "facts"
    assert (place / "blobs").is_dir()
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert not sshd.store.exists()


def test_store_may_be_in_the_home(own: SshServer) -> None:
    entry(own, store="~/bench/store")
    with opened() as link:
        link.probe()
    assert (own.folder / "home" / "bench" / "store" / "blobs").is_dir()


def test_every_command_uses_it(sshd: SshServer, harness: Command, study: Path) -> None:
    place = sshd.folder / "all"
    entry(sshd, store=str(place))
    assert harness("run", str(study), "--device", "board", "--variant", "fp16", "--rounds", "1").code == 0
    assert len(list((place / "jobs").iterdir())) == 1
    assert harness("device", "release", "board").out == "board: no job was running\n"
    assert not sshd.store.exists()


@root_only
def test_a_store_of_somebody_else_is_refused(sshd: SshServer) -> None:
    place = sshd.folder / "theirs"
    place.mkdir()
    place.chmod(0o777)
    refused(sshd, rf"the store {place} belongs to root, not to the account {sshd.user}", store=str(place))


def test_a_store_that_everybody_may_change_is_refused(sshd: SshServer) -> None:
    place = Path(tempfile.mkdtemp(dir=sshd.folder))
    account.write(place, {})
    place.chmod(0o777)
    refused(sshd, rf"every account may write to the store {place} \(mode 777\): run chmod go-w on it", store=str(place))


def test_a_file_in_its_place_is_named(sshd: SshServer) -> None:
    place = sshd.folder / "file"
    place.touch()
    refused(sshd, rf"the store {place} can't be made: {place} is not a folder", store=str(place))
    refused(sshd, rf"the store {place}/below can't be made: {place} is not a folder", store=f"{place}/below")


def test_on_this_machine(tmp_path: Path) -> None:
    Path("devices.toml").write_text(f'[local]\nstore = "{tmp_path}/bench"\n')
    with opened("local") as link:
        link.probe()
    assert (tmp_path / "bench" / "blobs").is_dir()


@pytest.mark.parametrize("value", ["bench", "~bench", "/", "~/", "", "/a/../b", "~/..", "/a\nb"])
def test_what_names_no_folder_is_refused_with_its_line(value: str) -> None:
    Path("devices.toml").write_text(f"[board]\nhost = 'x'\nstore = {value!r}\n".replace("'", '"'))
    with pytest.raises(RegistryError, match=r"devices\.toml:3: .*is not a folder on the device: write it as"):
        registry.load().get("board")
