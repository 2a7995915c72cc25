"""Pushing to a real OpenSSH server, over good links and bad ones."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from harness.devices import registry
from harness.devices.link import Link
from harness.errors import DeviceError, LostError, TransferError
from tests.devices.test_pieces import model, outside, weight
from tests.proxy import Fault, Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sshd import SshServer

pytestmark = pytest.mark.ssh
MB = 1_000_000


@contextmanager
def link(sshd: SshServer, port: int | None = None, **keys: str | int) -> Iterator[Link]:
    Path("devices.toml").write_text(sshd.entry("board", **{"port": port or sshd.port, **keys}))
    opened = Link(registry.load().get("board"))
    try:
        yield opened
    finally:
        opened.close()


def files(*paths: Path) -> dict[str, Path]:
    return {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in paths}


def noise(path: Path, size: int, seed: int = 0) -> Path:
    path.write_bytes(np.random.default_rng(seed).bytes(size))
    return path


def blobs(sshd: SshServer) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (sshd.store / "blobs" / "sha256").iterdir()}


def test_tensors_that_are_there_or_were_just_sent_are_not_sent_again(sshd: SshServer, tmp_path: Path) -> None:
    first = files(model(tmp_path / "a.onnx", weight(1, 50_000), weight(2, 50_000)))
    rest = files(
        model(tmp_path / "b.onnx", weight(3, 50_000), weight(2, 50_000), weight(1, 50_000)),
        model(tmp_path / "c.onnx", weight(3, 50_000), weight(3, 50_000), constant=weight(1, 50_000)),
    )
    with link(sshd) as board:
        assert board.push(first) == sum(path.stat().st_size for path in first.values())
        sent = board.push(rest)
        assert 200_000 < sent < 202_000, "one tensor, and the graphs"
        assert board.push({**first, **rest}) == 0
    assert blobs(sshd) == {sha256: path.read_bytes() for sha256, path in {**first, **rest}.items()}


def test_tensors_beside_models_are_shared_too(sshd: SshServer, tmp_path: Path) -> None:
    found = []
    for name, seeds in (("a", (1, 2)), ("b", (3, 2, 1))):
        data, sha256 = outside(tmp_path / f"{name}.onnx", *(weight(seed, 50_000) for seed in seeds))
        found.append({**files(tmp_path / f"{name}.onnx"), sha256: data})
    first, second = found
    with link(sshd) as board:
        assert board.push(first) == sum(path.stat().st_size for path in first.values())
        assert 200_000 < board.push(second) < 202_000, "one tensor, and the graph"
        assert board.push({**first, **second}) == 0
    assert blobs(sshd) == {sha256: path.read_bytes() for sha256, path in {**first, **second}.items()}


def test_a_store_whose_blob_rotted_heals(sshd: SshServer, tmp_path: Path) -> None:
    first = files(model(tmp_path / "a.onnx", weight(1, 50_000), weight(2, 50_000)))
    second = files(model(tmp_path / "b.onnx", weight(1, 50_000), weight(3, 50_000)))
    with link(sshd) as board:
        board.push(first)
        (name,) = first
        path = sshd.store / "blobs" / "sha256" / name
        content = bytearray(path.read_bytes())
        content[100_000] ^= 1
        path.write_bytes(content)
        # It is built from the rotten one, found damaged, and sent whole.
        assert board.push(second) > 400_000
        assert name not in blobs(sshd)
        board.push(first)
    assert blobs(sshd) == {sha256: path.read_bytes() for sha256, path in {**first, **second}.items()}


def test_a_blob_of_another_size_is_sent_anew(sshd: SshServer, tmp_path: Path) -> None:
    wanted = files(noise(tmp_path / "a", 100_000))
    with link(sshd) as board:
        board.push(wanted)
        (name,) = wanted
        os.truncate(sshd.store / "blobs" / "sha256" / name, 50_000)
        assert board.push(wanted) == 100_000
    assert blobs(sshd) == {name: wanted[name].read_bytes()}


@pytest.mark.parametrize("fault", ["fin", "rst", "freeze"])
def test_a_push_that_was_cut_goes_on_from_where_it_stopped(sshd: SshServer, tmp_path: Path, fault: Fault) -> None:
    wanted = files(noise(tmp_path / "a", 20 * MB))
    with Proxy(sshd.port) as proxy:
        proxy.plan(fault, at=12 * MB)
        begun = time.monotonic()
        with link(sshd, proxy.port, silence_time=2) as board, pytest.raises(LostError, match="board: push: "):
            board.push(wanted)
        assert time.monotonic() - begun < 120
        if fault == "freeze":
            sshd.drop_connections()
        with link(sshd, proxy.port) as board:
            # What the proxy had carried is there, but for what was on its way: at most sshd's window of 2 MiB.
            assert board.push(wanted) < 11 * MB
    assert blobs(sshd) == {sha256: path.read_bytes() for sha256, path in wanted.items()}


def test_a_model_that_was_cut_in_the_middle_of_a_piece_goes_on(sshd: SshServer, tmp_path: Path) -> None:
    wanted = files(model(tmp_path / "a.onnx", weight(1, 2 * MB), weight(2, 2 * MB)), noise(tmp_path / "b", MB))
    total = sum(path.stat().st_size for path in wanted.values())
    with Proxy(sshd.port) as proxy:
        proxy.plan("rst", at=10 * MB)
        with link(sshd, proxy.port) as board, pytest.raises(LostError):
            board.push(wanted)
        with link(sshd, proxy.port) as board:
            assert board.push(wanted) < total - 7 * MB
    assert blobs(sshd) == {sha256: path.read_bytes() for sha256, path in wanted.items()}


def test_a_byte_flipped_on_the_way_breaks_the_connection_and_not_the_file(sshd: SshServer, tmp_path: Path) -> None:
    wanted = files(noise(tmp_path / "a", 4 * MB))
    with Proxy(sshd.port) as proxy:
        proxy.plan("flip", at=2 * MB)
        with link(sshd, proxy.port) as board, pytest.raises(LostError):
            board.push(wanted)
        with link(sshd, proxy.port) as board:
            board.push(wanted)
    assert blobs(sshd) == {sha256: path.read_bytes() for sha256, path in wanted.items()}


def test_a_part_that_was_spoilt_meanwhile_is_sent_anew(sshd: SshServer, tmp_path: Path) -> None:
    wanted = files(noise(tmp_path / "a", MB))
    (name,) = wanted
    with link(sshd) as board:
        board.push({})
        folder = sshd.store / "blobs" / "sha256"
        part = folder / f"{name}.part"
        part.write_bytes(b"x" * 500_000)
        part.chmod(0o666)
        # Half of it went on from the spoilt part, then all of it.
        assert board.push(wanted) == 1_500_000
    assert blobs(sshd) == {name: wanted[name].read_bytes()}


def test_two_controllers_push_the_same_at_once(sshd: SshServer, tmp_path: Path) -> None:
    wanted = files(*(noise(tmp_path / f"f{number}", 2 * MB, number) for number in range(4)))
    failed = []

    def push(board: Link) -> None:
        try:
            board.push(wanted)
        except DeviceError as exc:
            failed.append(exc)

    with link(sshd) as one, link(sshd) as two, link(sshd) as three:
        threads = [threading.Thread(target=push, args=(board,)) for board in (one, two, three)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
    assert failed == []
    assert blobs(sshd) == {sha256: path.read_bytes() for sha256, path in wanted.items()}


def test_the_quota_lets_go_what_was_unused_for_longest(sshd: SshServer, tmp_path: Path) -> None:
    old, mid, new = (noise(tmp_path / name, 2 * MB, seed) for seed, name in enumerate(("old", "mid", "new")))
    with link(sshd, quota="5MB") as board:
        board.push(files(old))
        board.push(files(mid))
        for path in (sshd.store / "blobs" / "sha256").iterdir():
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 100))
        assert board.push(files(old)) == 0, "asking for it is using it"
        board.push(files(new))
        assert set(blobs(sshd)) == set(files(old, new))
        with pytest.raises(
            TransferError,
            match=r"board: push: the quota of its store, 5\.0 MB, is too small: 6\.0 MB are needed in /.*raise quota",
        ):
            board.push(files(noise(tmp_path / "large", 6 * MB)))
        assert set(blobs(sshd)) == set(files(old, new)), "what does not fit anyway costs nothing that is there"


def test_a_quota_that_was_lowered_counts_although_nothing_is_sent(sshd: SshServer, tmp_path: Path) -> None:
    old, new = (noise(tmp_path / name, 2 * MB, seed) for seed, name in enumerate(("old", "new")))
    with link(sshd) as board:
        board.push(files(old))
        board.push(files(new))
    with link(sshd, quota="3MB") as board:
        assert board.push(files(new)) == 0
    assert set(blobs(sshd)) == set(files(new))


def test_the_runtime_that_is_used_stays(sshd: SshServer, tmp_path: Path) -> None:
    with link(sshd) as board:
        board.push(files(noise(tmp_path / "a", MB)))
        for name in ("1" * 64, "2" * 64):
            (sshd.store / "runtimes" / name).mkdir(parents=True)
            noise(sshd.store / "runtimes" / name / "wheel", 2 * MB)
        for path in [sshd.store / "runtimes", *(sshd.store / "runtimes").rglob("*")]:
            path.chmod(0o777 if path.is_dir() else 0o666)
        (sshd.store / "runtimes" / "current").write_text(json.dumps({"cpython": {"runtime": "1" * 64}}))
        (sshd.store / "runtimes" / "current").chmod(0o644)
    with link(sshd, quota="4MB") as board:
        board.push(files(noise(tmp_path / "b", MB, 2)))
    assert (sshd.store / "runtimes" / ("1" * 64)).is_dir()
    assert not (sshd.store / "runtimes" / ("2" * 64)).exists()


def test_a_running_jobs_files_stay(sshd: SshServer, tmp_path: Path) -> None:
    import fcntl

    used, other = files(noise(tmp_path / "used", 2 * MB, 1)), files(noise(tmp_path / "other", 2 * MB, 2))
    with link(sshd, quota="5MB") as board:
        board.push(used)
        board.push(other)
        folder = sshd.store / "jobs" / "j1"
        folder.mkdir(parents=True)
        folder.chmod(0o755)
        folder.parent.chmod(0o755)
        (folder / "request.json").write_text(json.dumps({"cases": [{"model": next(iter(used))}]}))
        blob = sshd.store / "blobs" / "sha256" / next(iter(used))
        os.utime(blob, (0, 0))
        with (folder / "lock").open("wb") as lock:
            (folder / "lock").chmod(0o644)
            fcntl.flock(lock, fcntl.LOCK_EX)
            board.push(files(noise(tmp_path / "new", 2 * MB, 3)))
            assert set(used) <= set(blobs(sshd))
            assert not set(other) & set(blobs(sshd))
        os.utime(blob, (0, 0))
        board.push(files(noise(tmp_path / "newer", 2 * MB, 4)))
        assert not set(used) & set(blobs(sshd)), "the job has ended"


def test_a_store_that_may_not_be_written_is_named(sshd: SshServer, tmp_path: Path) -> None:
    with link(sshd) as board:
        board.push({})
        folder = sshd.store / "blobs" / "sha256"
        folder.chmod(0o500)
        try:
            with pytest.raises(TransferError, match=r"board: push: Permission denied: .*/blobs/sha256/"):
                board.push(files(noise(tmp_path / "a", 1000)))
        finally:
            folder.chmod(0o700)


def test_a_file_that_went_away_here_is_named(sshd: SshServer, tmp_path: Path) -> None:
    with link(sshd) as board, pytest.raises(TransferError, match=r"board: push: .*/gone: can't be read: No such file"):
        board.push({"0" * 64: tmp_path / "gone"})


def test_the_folders_are_their_owners_alone(sshd: SshServer, tmp_path: Path) -> None:
    with link(sshd) as board:
        board.push(files(noise(tmp_path / "a", 1000)))
    folders = [path for path in [sshd.store, *sshd.store.rglob("*")] if path.is_dir()]
    assert len(folders) > 3
    assert {oct(path.stat().st_mode & 0o777) for path in folders} == {"0o700"}


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_is_named_before_anything_is_sent(sshd: SshServer, tmp_path: Path) -> None:
    import subprocess

    sshd.store.mkdir(mode=0o755, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m,mode=777", "none", str(sshd.store)], check=True)
    try:
        with link(sshd) as board:
            board.push(files(noise(tmp_path / "a", MB)))
            with Proxy(sshd.port) as proxy, link(sshd, proxy.port) as thin:
                with pytest.raises(
                    TransferError,
                    match=r"board: push: its disk is full: 20\.0 MB are needed in /.*, which is [0-9.]+ MB more than can be freed; [0-9.]+ MB are free",
                ):
                    thin.push(files(noise(tmp_path / "b", 20 * MB)))
                assert proxy.carried < MB
            # Making room: what is not used goes.
            assert board.push(files(noise(tmp_path / "c", 6 * MB))) == 6 * MB
    finally:
        subprocess.run(["umount", "-l", str(sshd.store)], check=True)
