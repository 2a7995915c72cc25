from __future__ import annotations

import csv
import io

import pytest

from harness.judge.judgement import Judgement
from harness.report import csv_file
from tests.report import runs
from tests.report.runs import NASTY


def read(summary: Judgement) -> list[dict[str, str]]:
    """The file as another program reads it."""
    return list(csv.DictReader(io.StringIO(csv_file.render(summary).decode(), newline="")))


def test_every_row_of_every_device_is_a_line(hostile: Judgement) -> None:
    lines = read(hostile)
    assert [(line["device"], line["state"]) for line in lines] == [
        (row.device, row.state) for table in hostile.tables for row in table.rows
    ]
    assert len(lines) == 12


def test_numbers_are_unrounded(hostile: Judgement) -> None:
    line, row = read(hostile)[1], runs.row(hostile, "rpi4", "static-QDQ")
    assert row.median is not None
    assert row.speedup is not None
    assert float(line["median_ms"]) == row.median.value
    assert (float(line["median_ms_low"]), float(line["median_ms_high"])) == (row.median.low, row.median.high)
    assert float(line["speedup"]) == row.speedup.value
    assert float(line["accuracy_drop"]) == pytest.approx(0.01)


def test_what_is_not_known_is_empty(hostile: Judgement) -> None:
    short = read(hostile)[3]
    assert float(short["median_ms"]) > 3
    assert (short["median_ms_low"], short["median_ms_high"], short["accuracy"], short["reason"]) == ("", "", "", "")


def test_hostile_words_come_back_as_they_were(hostile: Judgement) -> None:
    lines = read(hostile)
    assert lines[1]["notes"] == NASTY
    assert lines[2]["reason"] == f"crash: {NASTY}"
    assert all(None not in line for line in lines)


def test_the_replicates_are_no_column(simple: Judgement) -> None:
    assert runs.row(simple, "rpi4", "fp32").medians
    assert "medians" not in read(simple)[0]
    assert list(csv_file.flat(simple.tables[0].rows[0])) == list(read(simple)[0])
