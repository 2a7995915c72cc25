from __future__ import annotations

import xml.etree.ElementTree as ET
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.devices.device import Device
from harness.judge.judgement import Judgement
from harness.measure.events import Failed
from harness.records.run import DeviceRecord
from harness.report import columns, notes
from harness.text import sanitize
from tests.report import runs


def shown(summary: Judgement, device: str, variant: str) -> dict[str, str]:
    """A row as people read it."""
    table = next(table for table in summary.tables if table.device.entry.name == device)
    return {column.title: column.text(runs.row(summary, device, variant)) for column in columns.of(table)}


@given(st.text())
def test_plain_words_are_legal_in_xml_and_leave_printable_ones_alone(words: str) -> None:
    found = sanitize(words)
    assert len(found) == len(words)
    ET.fromstring(f"<a>{escape(found)}</a>")
    if words.isprintable():
        assert found == "".join(letter if ord(letter) not in {0xFFFE, 0xFFFF} else "\ufffd" for letter in words)


@pytest.mark.parametrize("control", ["\x00", "\x07", "\x1b", "\x7f", "\x9b", "\ud800", "\uffff"])
def test_what_a_terminal_obeys_is_replaced(control: str) -> None:
    assert sanitize(f"a{control}b") == "a\ufffdb"


def test_a_measured_row(hostile: Judgement) -> None:
    found = shown(hostile, "rpi4", "static-QDQ")
    assert (found["size"], found["of fp32"]) == ("1.0 kB", "0.25")
    assert found["median ms"].startswith("1.02 [")
    assert found["speed-up"].startswith("2.00× [")
    assert (found["top-1"], found["drop"], found["MSE"], found["SQNR"]) == ("97.00 %", "+1.00 pp", "1.50e-04", "31.2 dB")
    assert shown(hostile, "rpi4", "fp32")["SQNR"] == "identical"


def test_a_case_that_failed_after_a_round_shows_its_state_and_no_times(hostile: Judgement) -> None:
    assert runs.row(hostile, "rpi4", "broken").p90 is not None
    found = shown(hostile, "rpi4", "broken")
    assert found["median ms"] == "failed"
    assert {found[title] for title in ("p90", "p99", "speed-up")} == {"–"}


def test_the_mark_of_a_missing_interval_is_explained_wherever_it_stands() -> None:
    # fp32 fails in the third round: the other case has an interval for its median and none for its speed-up.
    failure = Failed(device="rpi4", case="c0", round=2, kind="crash", message="killed")
    events = [*runs.blocks("rpi4", "c0", [2.0] * 2), failure, *runs.blocks("rpi4", "c1", [1.0] * 5)]
    record = DeviceRecord(entry=Device(name="rpi4", host="h"))
    cases = [runs.case("c0", runs.FP32), runs.case("c1", runs.FAST)]
    (table,) = runs.finish(events, record, variants=[runs.variant(runs.FP32), runs.variant(runs.FAST)], cases=cases).tables
    fast = {column.title: column.text(table.rows[1]) for column in columns.of(table)}
    assert "[?]" not in fast["median ms"]
    assert fast["speed-up"] == "2.00× [?]"
    assert "[?]: no interval yet, because there are fewer than three launches" in notes.notes(table)
