from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ResultsError, RunnerError
from harness.measure import journal
from harness.measure.packed import Samples
from harness.measure.route_events import DeviceFailed
from tests import duets

DUET: dict[str, Any] = duets.line(["c0", "c1"], 0, duets.rebuild(duets.pair([[10, 11, 12], [20, 22, 24]])))


def changed(**fields: Any) -> dict[str, Any]:
    """The line with something else in its only pair."""
    return {**DUET, "rebuilds": [duets.rebuild({**DUET["rebuilds"][0]["pairs"][0], **fields})]}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    events = [journal.check(DUET, "local"), DeviceFailed(device="b", step="push", reason="<full>\n\x07")]
    book = journal.Journal(path)
    for event in events:
        book.write(event)
    book.close()
    assert list(journal.read(path)) == events


def test_many_who_write_at_once_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fsync

    def fsync(file: int) -> None:
        real(file)
        synced.append(os.fstat(file).st_size)
        time.sleep(0.01)

    monkeypatch.setattr(os, "fsync", fsync)
    path = tmp_path / "journal.jsonl"
    book = journal.Journal(path)

    def write(device: str) -> None:
        for number in range(20):
            book.write(DeviceFailed(device=device, step="push", reason=str(number)))
            assert max(synced) >= mine(device, number), "what is reported next is on the disk already"

    def mine(device: str, number: int) -> int:
        lines = path.read_bytes().splitlines(keepends=True)
        place = next(
            i
            for i, line in enumerate(lines)
            if (found := json.loads(line))["device"] == device and found["reason"] == str(number)
        )
        return sum(map(len, lines[: place + 1]))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, [f"d{number}" for number in range(16)]))
    book.close()
    told = [(event.device, event.reason) for event in journal.read(path) if isinstance(event, DeviceFailed)]
    assert len(told) == 320
    for number in range(16):
        assert [reason for device, reason in told if device == f"d{number}"] == [str(each) for each in range(20)]
    assert len(synced) < 320, "they shared"


def test_a_last_line_that_was_cut_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    line = json.dumps({**DUET, "device": "local"})
    path.write_text(f"{line}\n{line[:40]}")
    assert len(list(journal.read(path))) == 1


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    line = json.dumps({**DUET, "device": "local"})
    path.write_text(f"{line}\n{line[:40]}\n{line}\n")
    with pytest.raises(ResultsError, match=r"journal\.jsonl:2: damaged line"):
        list(journal.read(path))


@pytest.mark.parametrize(
    "line",
    [
        changed(medians=[]),
        changed(medians=[-1, 1]),
        changed(medians=["x", 1]),
        changed(medians=[float("nan"), 1]),
        changed(medians=[1]),
        changed(order=[0]),
        changed(wall_ns=["1e3"]),
        changed(samples=[{"base": 10, "unit": 1, "count": 3, "data": "AgEA"}] * 3),
        changed(samples=[{"base": 10, "unit": 1, "count": 4, "data": "AgEA"}] * 2),
        changed(samples=[{"base": 0, "unit": 1, "count": 3, "data": "AQEB"}] * 2),
        changed(samples=[{"base": 0, "unit": 1, "count": 1, "data": "no base64"}] * 2),
        {**DUET, "round": None},
        {**DUET, "round": 2**70},
        {**DUET, "cases": ["x" * 1000, "y"]},
        {**DUET, "cases": ["c0"]},
        {**DUET, "cases": ["c0", "c1", "c2"]},
        {**DUET, "rebuilds": []},
        {**DUET, "event": "explode"},
    ],
)
def test_what_a_device_says_is_checked(line: dict[str, Any]) -> None:
    with pytest.raises(
        RunnerError, match=r"board: measure: the journal has a line that (does not follow the protocol|is not an event of a job)"
    ):
        journal.check(line, "board")


def test_a_device_can_not_speak_for_another() -> None:
    assert journal.check({**DUET, "device": "other"}, "board").device == "board"


@given(st.lists(st.integers(0, 2**45), min_size=1, max_size=50))
def test_samples_keep_their_resolution(nanoseconds: list[int]) -> None:
    packed = duets.encode(nanoseconds)
    found = Samples.model_validate(packed).nanoseconds
    assert len(found) == len(nanoseconds)
    assert packed["unit"] <= max(1, packed["base"] / 8192)
    assert all(abs(kept - given) <= packed["unit"] / 2 for kept, given in zip(found, nanoseconds, strict=True))


def test_samples_take_three_bytes_at_most() -> None:
    chance = np.random.default_rng(1)
    for middle in (50_000, 1_600_000, 20_000_000):
        nanoseconds = (middle * chance.lognormal(0, 0.02, 1000)).astype(int).tolist()
        assert len(json.dumps(duets.encode(nanoseconds))) < 3 * 1000
