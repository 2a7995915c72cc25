"""Certificates of host keys: accepted where the real ssh accepts them, and only there."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.devices import registry
from harness.devices.transports.ssh import SshTransport
from harness.errors import HostKeyError
from tests.cli.conftest import Command, harness
from tests.ssh_client import keygen, make_key, ssh_gets_in
from tests.sshd import SshServer

__all__ = ["harness"]

pytestmark = pytest.mark.ssh

ALIAS = "rpi4.lab"


@dataclass(frozen=True)
class Case:
    """A server's certificate and what known_hosts says.

    Attributes:
        known: lines of known_hosts, with names of public keys and PORT to be put in.
        signed: how ssh-keygen signs the host key, beside ``-s CA``; None is no certificate.
        ca: who signs it.
        key: which host key.
        alias: whether ssh_config has a HostKeyAlias.
        works: whether ssh logs in.
        words: what our message says if not.
    """

    known: str
    signed: str | None = f"-h -n 127.0.0.1,{ALIAS}"
    ca: str = "ca"
    key: str = "host"
    alias: bool = True
    works: bool = True
    words: str = ""


CASES = {
    "a CA": Case(f"@cert-authority {ALIAS} CA"),
    "a CA for a pattern": Case("@cert-authority *.lab CA"),
    "a CA for all": Case("@cert-authority * CA"),
    "a CA of another host": Case("@cert-authority *.farm CA", works=False, words="does not name that CA"),
    "a CA but for this host": Case(f"@cert-authority *.lab,!{ALIAS} CA", works=False, words="does not name that CA"),
    "another CA": Case("@cert-authority *.lab OTHER", works=False, words="does not name that CA"),
    "several CAs": Case("@cert-authority *.lab OTHER\n@cert-authority *.lab CA"),
    "an RSA CA": Case("@cert-authority *.lab RSA", ca="rsa"),
    "an RSA CA with SHA-256": Case("@cert-authority *.lab RSA", signed=f"-t rsa-sha2-256 -h -n {ALIAS}", ca="rsa"),
    "an RSA CA with SHA-1": Case(
        "@cert-authority *.lab RSA",
        signed=f"-t ssh-rsa -h -n {ALIAS}",
        ca="rsa",
        works=False,
        words="not by its CA, or is of an unsupported type",
    ),
    "an ECDSA CA": Case("@cert-authority *.lab ECDSA", ca="ecdsa"),
    "an RSA host key": Case("@cert-authority *.lab CA", key="host_rsa"),
    "an ECDSA host key": Case("@cert-authority *.lab CA", key="host_ecdsa"),
    "expired": Case(
        "@cert-authority *.lab CA", signed=f"-h -n {ALIAS} -V 20200101:20200201", works=False, words="it expired at 2020-0"
    ),
    "not yet valid": Case(
        "@cert-authority *.lab CA",
        signed=f"-h -n {ALIAS} -V +1w:+2w",
        works=False,
        words="it is (?:valid from .* on|not valid before )",
    ),
    "valid for a while": Case("@cert-authority *.lab CA", signed=f"-h -n {ALIAS} -V -1d:+1d"),
    "for another host": Case(
        "@cert-authority *.lab CA", signed="-h -n rpi5.lab", works=False, words="it is for rpi5.lab, not for"
    ),
    "for a pattern of hosts": Case(
        "@cert-authority *.lab CA", signed="-h -n *.lab", works=False, words="it is for ..lab, not for"
    ),
    "for every host": Case("@cert-authority *.lab CA", signed="-h"),
    "a user's": Case(
        "@cert-authority *.lab CA", signed=f"-n {ALIAS}", works=False, words="it is a user certificate, not a host certificate"
    ),
    "critical options": Case(
        "@cert-authority *.lab CA",
        signed=f"-h -n {ALIAS} -O critical:x=y",
        works=False,
        words="unknown critical options",
    ),
    "no certificate": Case("@cert-authority *.lab CA", signed=None, works=False, words="but the server shows no certificate"),
    "no certificate, but its key is known": Case(f"@cert-authority *.lab CA\n{ALIAS} HOST", signed=None),
    "expired, but its key is known": Case(
        f"@cert-authority *.lab CA\n{ALIAS} HOST", signed=f"-h -n {ALIAS} -V 20200101:20200201"
    ),
    "of another CA, but its key is known": Case(f"@cert-authority *.lab OTHER\n{ALIAS} HOST"),
    "its key is known, and no CA": Case(f"{ALIAS} HOST"),
    "another key is known": Case(f"@cert-authority *.lab CA\n{ALIAS} OTHER"),
    "a revoked CA": Case("@cert-authority *.lab CA\n@revoked * CA", works=False, words="known_hosts revokes the CA"),
    "a revoked CA, but its key is known": Case(
        f"@revoked * CA\n@cert-authority *.lab CA\n{ALIAS} HOST", works=False, words="known_hosts revokes the CA"
    ),
    "a revoked key": Case("@cert-authority *.lab CA\n@revoked * HOST", works=False, words="is revoked in known_hosts"),
    "a CA revoked for another host": Case("@cert-authority *.lab CA\n@revoked *.farm CA"),
    "the CA's key without a marker": Case(f"{ALIAS} CA", works=False, words="not the one expected"),
    "a CA for host and port": Case("@cert-authority [127.0.0.1]:PORT CA", alias=False),
    "a CA for the host": Case("@cert-authority 127.0.0.1 CA", alias=False),
    "a CA for another port": Case("@cert-authority [127.0.0.1]:1 CA", alias=False, works=False, words="does not name that CA"),
    "a key for the host": Case("127.0.0.1 HOST", signed=None, alias=False),
    "a key for host and port": Case("[127.0.0.1]:PORT HOST", signed=None, alias=False),
    "a key for another port": Case("[127.0.0.1]:1 HOST", signed=None, alias=False, works=False, words="unknown host key"),
    "another key for the port": Case(
        "127.0.0.1 HOST\n[127.0.0.1]:PORT OTHER", signed=None, alias=False, works=False, words="not the one expected"
    ),
    "another key for the host": Case("127.0.0.1 OTHER", signed=None, alias=False, works=False, words="not the one expected"),
    "a key for the host of an alias": Case("127.0.0.1 HOST", signed=None, works=False, words="unknown host key"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """A server whose host keys are signed anew for each test."""
    if (reason := SshServer.lacking()) is not None:
        pytest.skip(reason)
    keys = tmp_path_factory.mktemp("keys")
    for name, kind in {"ca": "ed25519", "other": "ed25519", "rsa": "rsa", "ecdsa": "ecdsa"}.items():
        make_key(keys / name, kind)
    with SshServer() as started:
        make_key(keys / "host_rsa", "rsa")
        make_key(keys / "host_ecdsa", "ecdsa")
        for suffix in ("", ".pub"):
            shutil.copy(started.folder / f"host_key{suffix}", keys / f"host{suffix}")
        started.keys = keys  # type: ignore[attr-defined]
        yield started


def prepare(server: SshServer, case: Case, folder: Path) -> Path:
    """Start the server with the certificate; write known_hosts and ssh_config."""
    keys: Path = server.keys  # type: ignore[attr-defined]
    mine = server.folder / "mine"
    for old in server.folder.glob("mine*"):
        old.unlink()
    for suffix in ("", ".pub"):
        shutil.copy(keys / f"{case.key}{suffix}", f"{mine}{suffix}")
    lines = [f"HostKey {mine}"]
    if case.signed is not None:
        keygen("-s", keys / case.ca, "-I", "the-board", *case.signed.split(), f"{mine}.pub")
        lines.append(f"HostCertificate {mine}-cert.pub")
    for file in server.folder.glob("mine*"):
        shutil.chown(file, server.user)
    server.restart(*lines)
    text = case.known.replace("PORT", str(server.port))
    for word, name in {"CA": "ca", "OTHER": "other", "RSA": "rsa", "ECDSA": "ecdsa", "HOST": case.key}.items():
        public = " ".join((keys / f"{name}.pub").read_text().split()[:2])
        text = re.sub(rf" {word}$", f" {public} comment", text, flags=re.MULTILINE)
    (folder / "known").write_text(text + "\n")
    config = Path.home() / ".ssh" / "config"
    config.parent.mkdir(exist_ok=True)
    block = ["Host board", "HostName 127.0.0.1", f"Port {server.port}", f"User {server.user}", f"IdentityFile {server.identity}"]
    block += ["IdentitiesOnly yes", f"UserKnownHostsFile {folder}/known", "GlobalKnownHostsFile none"]
    config.write_text("\n".join([*block, *([f"HostKeyAlias {ALIAS}"] if case.alias else []), ""]))
    return config


# One of each kind; the others are run with 'make test-faults'.
ALWAYS = {
    "a CA",
    "another CA",
    "an RSA CA with SHA-1",
    "an RSA host key",
    "expired",
    "for another host",
    "a user's",
    "no certificate, but its key is known",
    "a revoked CA",
    "a CA for the host",
    "a key for the host",
    "another key for the port",
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=name, marks=() if name in ALWAYS else pytest.mark.faults) for name, case in CASES.items()],
)
def test_as_ssh_does(server: SshServer, case: Case, tmp_path: Path) -> None:
    config = prepare(server, case, tmp_path)
    assert ssh_gets_in("board", config) is case.works
    Path("devices.toml").write_text('[board]\nhost = "board"\n')
    known = registry.load()
    if case.works:
        SshTransport(known.get("board")).close()
        return
    with pytest.raises(HostKeyError, match=case.words):
        SshTransport(known.get("board"))


def test_device_add_leaves_a_certified_host_to_its_ca(server: SshServer, tmp_path: Path, harness: Command) -> None:
    prepare(server, CASES["a CA"], tmp_path)
    done = harness("device", "add", "rpi", "board", "--python", server.python)
    assert done.code == 0, done.err
    assert "(certified by a CA of known_hosts)" in done.out
    assert "host_key" not in Path("devices.toml").read_text()
    # Its key is made anew, and certified again.
    prepare(server, CASES["an RSA host key"], tmp_path)
    done = harness("device", "probe", "rpi")
    assert done.code == 0, done.err


def test_device_trust_pins_the_key_of_a_certified_host(server: SshServer, tmp_path: Path, harness: Command) -> None:
    prepare(server, CASES["expired"], tmp_path)
    Path("devices.toml").write_text(f'[rpi]\nhost = "board"\npython = "{server.python}"\n')
    done = harness("device", "probe", "rpi")
    assert done.code == 3
    assert "expired at 2020-0" in done.err
    assert harness("device", "trust", "rpi").code == 0
    assert f'host_key = "{server.public("mine")}"' in Path("devices.toml").read_text()
    done = harness("device", "probe", "rpi")
    assert done.code == 0, done.err
