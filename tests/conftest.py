"""Every test has a store, a registry and a results folder of its own."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from tests.sshd import SshServer

if TYPE_CHECKING:
    from collections.abc import Iterator

# A busy machine draws slowly; that says nothing about a test.
hypothesis_settings.register_profile("any-speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("any-speed")

ROOT = Path(__file__).parent.parent
DIGITS = ROOT / "studies" / "digits"


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests away from the user's store, registry, results and known hosts."""
    monkeypatch.setenv("QUANT_HARNESS_HOME", str(tmp_path / "store"))
    # Several tests measure on this machine at once, and each is a device of its own.
    monkeypatch.setenv("QUANT_HARNESS_LEASE", f"test-{secrets.token_hex(8)}")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HARNESS_DEVICES", raising=False)
    monkeypatch.delenv("HARNESS_RESULTS", raising=False)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture(scope="session")
def sshd() -> Iterator[SshServer]:
    """A real OpenSSH server on 127.0.0.1, run by an ordinary user, with keys made for this test run."""
    reason = SshServer.lacking()
    if reason is not None:
        pytest.skip(reason)
    with SshServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _empty_board(request: pytest.FixtureRequest) -> None:
    """Let every test that uses the server find an empty store there."""
    if "sshd" in request.fixturenames:
        request.getfixturevalue("sshd").clear()
