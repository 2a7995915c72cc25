"""A file that is written is whole or not there at all, in every place that writes files, also if the disk takes no more of it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import stat
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from harness import files
from harness.devices import program, registry, registry_file
from harness.devices.boards import board as boards
from harness.devices.boards import packages
from harness.devices.device import Device
from harness.errors import DeviceError, ResultsError, UsageError
from harness.measure import accuracy
from harness.quantize.cache import Cache
from harness.quantize.calibration.ranges import Ranges
from harness.quantize.model import storage
from harness.quantize.recipe import Recipe, Variant
from harness.quantize.verify.sample import Sample
from harness.records.samples import Blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Bytes; what the tests write is larger, but for the file of a variant that the cache keeps.
LIMIT = 64
NEW = "new " * LIMIT


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Let this process write no more than LIMIT bytes to a file: the write that goes beyond fails in its middle, as on a full disk."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def text(folder: Path) -> Callable[[], object]:
    (folder / "run.json").write_text("old")
    return lambda: files.write_text(folder / "run.json", NEW)


def synced(folder: Path) -> Callable[[], object]:
    return lambda: files.write_bytes(folder / "run.json", NEW.encode(), sync=True)


def ranges(folder: Path) -> Callable[[], object]:
    (folder / "made").write_text(NEW)
    return lambda: Ranges(folder / "kept").keep("key", folder / "made")


def cached(folder: Path) -> Callable[[], object]:
    source: Any = SimpleNamespace(sha256="0" * 64)
    (folder / "v.onnx").write_bytes(b"small")
    variant = Variant(recipe=Recipe(name="v", method="fp16"), state="made", path=folder / "v.onnx", reason=NEW)
    cache = Cache(folder / "kept", source, {})
    # The model itself is kept: only what is known of it does not fit.
    (folder / "kept").mkdir()
    cache._file(variant.recipe).write_bytes(b"small")
    return lambda: cache.keep(variant)


def model(folder: Path) -> Callable[[], object]:
    (folder / "from.onnx").write_text(NEW)
    (folder / "to.onnx").write_text("old")
    return lambda: storage.copy(folder / "from.onnx", folder / "to.onnx", None)


def samples(folder: Path) -> Callable[[], object]:
    return lambda: Blocks([]).write(folder / "samples.parquet")


def entry(folder: Path) -> Callable[[], object]:
    (folder / "devices.toml").write_text('[old]\nhost = "h"\n')
    return lambda: registry_file.write_device(folder / "devices.toml", Device(name="new", host=NEW))


def key(folder: Path) -> Callable[[], object]:
    (folder / "devices.toml").write_text('[old]\nhost = "h"\n')
    return lambda: registry_file.write_key(registry.load(folder / "devices.toml"), "old", host_key=f"ssh-ed25519 {NEW}")


def package(folder: Path) -> Callable[[], object]:
    (folder / "mirror").write_text(NEW)
    wanted = packages.Package("p", "1", "mirror", hashlib.sha256(NEW.encode()).hexdigest(), len(NEW), ())
    return lambda: packages.fetch(wanted, f"file://{folder}", None, folder)


def sample(folder: Path) -> Callable[[], object]:
    return lambda: Sample({"x": np.zeros(LIMIT)}, {}, 0.0).file(folder)


def inputs(folder: Path) -> Callable[[], object]:
    samples: Any = SimpleNamespace(feeds=[{"x": np.zeros(LIMIT)}])
    return lambda: accuracy.write_inputs(samples, {}, folder)


def board(folder: Path) -> Callable[[], object]:
    made = boards.make_place("board")
    record = boards.Board(
        name="board",
        cpu="cortex-a53",
        clock="icount",
        image=folder / NEW.replace(" ", "/"),
        registry=folder,
        since=datetime.now(UTC),
    )
    (made / boards.RECORD).write_text("old")
    return record.save


def packed(_folder: Path) -> Callable[[], object]:
    return lambda: program._file.__wrapped__("job")


WRITERS = [text, synced, ranges, cached, model, samples, entry, key, package, sample, inputs, board, packed]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_write_that_fails_in_its_middle_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: Callable[[Path], Callable[[], object]]
) -> None:
    monkeypatch.setattr(packages, "PAUSE_SECONDS", 0.0)
    monkeypatch.setenv("QUANT_HARNESS_HOME", str(tmp_path / "home"))
    write = writer(tmp_path)
    before = content(tmp_path)
    # A cache that can't be written keeps nothing, and says nothing of it.
    with full_disk(), contextlib.suppress(OSError, UsageError, ResultsError, DeviceError):
        write()
    assert content(tmp_path) == before
    write()
    assert content(tmp_path) != before, "the same write works on a disk with room"


def test_what_does_not_reach_the_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.csv"
    files.write_text(path, "old", sync=True)

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_text(path, "new", sync=True)
    assert content(tmp_path) == {"table.csv": b"old"}


def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "devices.toml"
    path.write_text("old")
    path.chmod(0o640)
    files.write_text(path, "new")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", 0o640)


def test_a_name_as_long_as_a_file_system_takes(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 127)
    files.write_text(path, "new")
    assert content(tmp_path) == {path.name: b"new"}


def test_a_copy_and_its_checksum(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"content")
    files.copy(tmp_path / "one", tmp_path / "two")
    assert files.sha256(tmp_path / "two") == hashlib.sha256(b"content").hexdigest()
