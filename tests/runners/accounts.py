"""Jobs that several accounts of this machine start, each with a store of its own; only root can."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.devices import program
from tests.runners.fakes import place, words
from tests.sshd import ACCOUNT, OTHER, account_python

ACCOUNTS = (ACCOUNT, OTHER)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every account can read."""
    if os.getuid() != 0:
        pytest.skip("only root can start processes for other accounts")
    for account in ACCOUNTS:
        try:
            pwd.getpwnam(account)
        except KeyError:
            pytest.skip(f"no account {account}: 'make test' makes one")
    folder = Path(tempfile.mkdtemp(prefix="harness-accounts-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def queue(shared: Path, account: str, job: str, *codes: str, **changes: Any) -> Path:
    """Place a job in an account's own store."""
    store = shared / account
    folder = place(store, job, *codes, **changes)
    for path in (store, *store.rglob("*")):
        shutil.chown(path, account, account)
    store.chmod(0o700)
    return folder


def begin_as(account: str, folder: Path, **env: str) -> subprocess.Popen[str]:
    """Start an account's job as its agent does: in a session of its own, with the lease's name of this test."""
    copied = folder.parent.parent.parent / "job.py"
    if not copied.exists():
        shutil.copy(program.job(), copied)
        copied.chmod(0o644)
    return as_account(account, [account_python(), str(copied), *words(folder)[2:]], **env)


def as_account(account: str, command: list[str], **env: str) -> subprocess.Popen[str]:
    """Start a process of an account."""
    inherited = {"PATH": os.environ["PATH"], "QUANT_HARNESS_LEASE": os.environ["QUANT_HARNESS_LEASE"]}
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, cwd="/",
        env={**inherited, **env}, user=account, group=account, extra_groups=[],
    )  # fmt: skip


def python_as(account: str, code: str) -> subprocess.Popen[str]:
    """Start a few lines of Python as an account."""
    return as_account(account, [account_python(), "-u", "-c", code])
