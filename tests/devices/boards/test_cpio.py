from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from harness.devices.boards import cpio

FILES = {"init": (0o755, b"#!/bin/sh\n"), "a/b/c.ko": (0o600, bytes(range(7)))}


def test_an_archive_is_whole_blocks_with_folders_before_files() -> None:
    packed = cpio.archive(FILES, folders=("dev", "x/y"))
    assert len(packed) % 512 == 0
    assert packed.startswith(b"070701")
    order = [packed.index(name + b"\0") for name in (b"a", b"a/b", b"dev", b"x", b"x/y", b"a/b/c.ko", b"init", b"TRAILER!!!")]
    assert order == sorted(order)


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")
def test_cpio_itself_unpacks_it(tmp_path: Path) -> None:
    packed = cpio.archive(FILES, folders=("dev",))
    subprocess.run(["cpio", "-idm", "--quiet", "--no-preserve-owner"], input=packed, cwd=tmp_path, check=True)
    assert (tmp_path / "dev").is_dir()
    assert (tmp_path / "a/b/c.ko").read_bytes() == bytes(range(7))
    assert (tmp_path / "a/b/c.ko").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "init").stat().st_mode & 0o777 == 0o755
