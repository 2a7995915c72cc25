"""A device with Dropbear, as small boards have it, in the place of OpenSSH."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.devices import facts as device_facts
from harness.devices import registry
from harness.devices.link import Link
from harness.devices.transports.ssh import host_key
from harness.errors import AuthenticationError, HostKeyError
from tests.dropbear import DropbearServer
from tests.ssh_client import agent, make_key

pytestmark = pytest.mark.ssh


@pytest.fixture(scope="module")
def server() -> Iterator[DropbearServer]:
    """A real Dropbear on 127.0.0.1."""
    if (reason := DropbearServer.lacking()) is not None:
        pytest.skip(reason)
    with DropbearServer() as running:
        yield running


@pytest.fixture(autouse=True)
def _empty_store(server: DropbearServer) -> None:
    server.clear()


def link(text: str) -> Link:
    Path("devices.toml").write_text(text)
    return Link(registry.load().get("board"))


def test_it_is_reached_and_probed(server: DropbearServer) -> None:
    board = link(server.entry("board"))
    facts = device_facts.check(board.probe(), "board")
    board.close()
    assert facts.onnxruntime.version is not None
    assert server.store.exists()
    assert server.store.owner() == server.user


def test_host_keys_are_refused_and_trusted(server: DropbearServer) -> None:
    with pytest.raises(HostKeyError, match="unknown host key"):
        link(server.entry("board", host_key=""))
    with pytest.raises(HostKeyError, match="not the one expected"):
        link(server.entry("board", host_key=server.public("other_key")))
    assert host_key(registry.load().get("board"))[0] == server.host_key


def test_a_key_that_may_not_log_in(server: DropbearServer) -> None:
    with pytest.raises(AuthenticationError, match="refused the login"):
        link(server.entry("board", identity_file=str(server.folder / "other_key")))


def test_the_right_one_of_many_keys(server: DropbearServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropbear allows ten tries; that it is asked whether it would take a key is none."""
    many = [make_key(tmp_path / f"key{number}") for number in range(14)]
    with agent(*many, server.identity) as place:
        monkeypatch.setenv("SSH_AUTH_SOCK", place)
        link(server.entry("board", identity_file="")).close()


def test_a_large_file_arrives_whole_once(server: DropbearServer, tmp_path: Path) -> None:
    data = os.urandom(5_000_000)
    (tmp_path / "file").write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    board = link(server.entry("board"))
    assert board.push({sha256: tmp_path / "file"}) == len(data)
    assert board.push({sha256: tmp_path / "file"}) == 0
    board.close()
    assert (server.store / "blobs" / "sha256" / sha256).read_bytes() == data


def test_it_is_jumped_through(server: DropbearServer) -> None:
    board = link(server.entry("gate") + server.entry("board", jump="gate"))
    assert board.probe()["event"] == "facts"
    board.close()
