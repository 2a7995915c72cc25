"""What a run and a provisioning write on a board is its owner's alone."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from harness.devices import registry
from harness.devices.provisioning.provision import provision
from tests.cli.conftest import Command
from tests.sshd import SshServer
from tests.wheelhouse import wheelhouse

pytestmark = [pytest.mark.ssh, pytest.mark.slow]


def test_all_of_the_store_is_its_owners_alone(harness: Command, study: Path, sshd: SshServer, tmp_path: Path) -> None:
    Path("devices.toml").write_text(sshd.entry("board"))
    done = harness("run", str(study), "--device", "board", "--rounds", "1")
    assert done.code == 0, done.err
    # Wheels of this kind can be imported, but measure nothing: they come after the run.
    provision(registry.load().get("board"), "1.31.1", wheelhouse(tmp_path / "house", "1.31.1"), lambda _told: None)
    found = [sshd.store, *sshd.store.rglob("*")]
    names = {path.name for path in found}
    assert {
        "request.json",
        "journal.jsonl",
        "log",
        "rc",
        "lock",
        "pid",
        "c0.npz",
        "layout",
        "lease",
        "queue",
        "current",
        "layouts",
    } <= names
    assert any(path.parent.name == "sha256" for path in found)
    assert any(path.parts[-2:] == ("onnxruntime", "__init__.py") for path in found)
    open_to_others = {
        str(path.relative_to(sshd.store)): oct(path.lstat().st_mode) for path in found if path.lstat().st_mode & 0o077
    }
    assert open_to_others == {}
    assert {path.owner() for path in found} == {sshd.user}
    plain = [path for path in found if path.is_file() and "runtimes" not in path.parts]
    assert {stat.S_IMODE(path.lstat().st_mode) for path in plain} == {0o600}
    assert not any(path.is_symlink() for path in found)
