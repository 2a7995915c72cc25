from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ResultsError, RunnerError
from harness.measure import journal

BLOCK: dict[str, Any] = {
    "event": "block",
    "case": "c0",
    "round": 0,
    "load_ns": 1,
    "first_ns": 1,
    "warmup": 5,
    "ns": [10, 11],
    "cpu_ns": 20,
    "wall_ns": 22,
    "involuntary_switches": 0,
    "peak_bytes": None,
}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    events = [journal.check(BLOCK, "local"), journal.DeviceFailed(device="b", step="push", reason="<full>\n\x07")]
    book = journal.Journal(path)
    for event in events:
        book.write(event)
    book.close()
    assert list(journal.read(path)) == events


def test_a_last_line_that_was_cut_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    line = json.dumps({**BLOCK, "device": "local"})
    path.write_text(f"{line}\n{line[:40]}")
    assert len(list(journal.read(path))) == 1


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    line = json.dumps({**BLOCK, "device": "local"})
    path.write_text(f"{line}\n{line[:40]}\n{line}\n")
    with pytest.raises(ResultsError, match=r"journal\.jsonl:2: damaged line"):
        list(journal.read(path))


@pytest.mark.parametrize(
    "change",
    [
        {"ns": []},
        {"ns": [-1]},
        {"ns": ["x"]},
        {"ns": [float("nan")]},
        {"round": None},
        {"round": 2**70},
        {"case": "x" * 1000},
        {"event": "explode"},
        {"wall_ns": "1e3"},
    ],
)
def test_what_a_device_says_is_checked(change: dict[str, Any]) -> None:
    with pytest.raises(RunnerError, match="board: measure: the journal has a line that is not of the protocol's shape"):
        journal.check({**BLOCK, **change}, "board")


def test_a_device_can_not_speak_for_another() -> None:
    assert journal.check({**BLOCK, "device": "other"}, "board").device == "board"
