from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.devices.device import Device
from harness.judge.intervals import Estimate
from harness.judge.judgement import Judgement
from harness.measure.events import Failed
from harness.records.run import DeviceRecord
from harness.report import columns
from harness.text import sanitize
from tests.report import runs


def shown(summary: Judgement, device: str, variant: str) -> dict[str, str]:
    """A row as people read it."""
    table = next(table for table in summary.tables if table.device.entry.name == device)
    return {column.title: column.text(runs.row(summary, device, variant)) for column in columns.of(table)}


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "–"), (0.0, "0.00"), (1.0, "1.00"), (123.4, "123"), (0.0012345, "0.00123"), (0.00012345, "1.23e-04"), (12345.0, "12345")],
)  # fmt: skip
def test_number(value: float | None, expected: str) -> None:
    assert columns.number(value) == expected


@pytest.mark.parametrize(("count", "expected"), [(None, "–"), (999, "1.0 kB"), (999_999, "1000.0 kB"), (12_340_000, "12.34 MB")])
def test_size(count: int | None, expected: str) -> None:
    assert columns.size(count) == expected


def test_shares() -> None:
    assert columns.percent(0.98765) == "98.77 %"
    assert (columns.points(0.01), columns.points(-0.01), columns.points(0.0)) == ("+1.00 pp", "-1.00 pp", "0.00 pp")
    assert (columns.percent(None), columns.points(None)) == ("–", "–")


def test_an_estimate_without_an_interval_is_marked() -> None:
    assert columns.estimate(Estimate(1.5, None, None, 2), "×") == "1.50× [?]"
    assert columns.estimate(Estimate(1.5, 1.4, 1.6, 5)) == "1.50 [1.40, 1.60]"
    assert columns.estimate(Estimate(1.0, 1.0, 1.0, 5)) == "1.00 [1.00, 1.00]"
    assert columns.estimate(None) == "–"


@given(st.floats(0.01, 900), st.floats(2e-4, 0.5))
def test_the_ends_of_an_interval_can_be_told_apart(value: float, half: float) -> None:
    text = columns.estimate(Estimate(value, value * (1 - half), value * (1 + half), 5))
    low, high = text.split(" [")[1].rstrip("]").split(", ")
    assert low != high


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


def test_reasons_of_a_measured_device(hostile: Judgement) -> None:
    lines = columns.reasons(hostile.tables[0])
    assert sum(line.startswith(("broken: failed: crash:", "never: impossible:", "refused: unmade:")) for line in lines) == 3
    assert "[?]: fewer than three processes allow no interval" in lines


def test_the_reasons_of_a_failed_device_do_not_repeat_its_trouble(hostile: Judgement) -> None:
    assert not any("the device failed" in line for line in columns.reasons(hostile.tables[1]))
    assert any(line.startswith("never: impossible") for line in columns.reasons(hostile.tables[1]))


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
    assert "[?]: fewer than three processes allow no interval" in columns.reasons(table)


def test_an_emulated_devices_times_are_explained(emulated: Judgement) -> None:
    assert "times are not measured: the device is emulated (qemu)" in columns.reasons(emulated.tables[0])
    assert not any(line.startswith("[?]") for line in columns.reasons(emulated.tables[0]))


def test_headings(hostile: Judgement) -> None:
    first, second = map(columns.heading, hostile.tables)
    assert first.endswith("(aarch64, 4 cores) · onnxruntime 1.31.1 · 5 rounds")
    assert second == "n1.lab"


def test_the_overview_has_a_column_for_each_device(hostile: Judgement) -> None:
    header, lines = columns.overview(hostile.tables)
    assert header == ["variant", "rpi4", "n1.lab ✗ connect"]
    cells = {line[0].split()[0]: line[1:] for line in lines}
    assert cells["short"] == ["3.05 ms  0.688× [?]", "–"]
    assert cells["broken"] == ["failed", "–"]
    assert cells["never"] == ["impossible", "impossible"]


def test_the_overview_of_an_emulated_device_shows_no_times(emulated: Judgement) -> None:
    assert {line[1] for line in columns.overview(emulated.tables)[1]} == {"–"}


def test_what_is_said_of_many_cases_is_said_once(hostile: Judgement) -> None:
    table = hostile.tables[0]
    rows = tuple(replace(table.rows[0], case=f"v{n}", state="measured", reason=None, notes=("same",)) for n in range(6))
    assert columns.reasons(replace(table, rows=rows))[0] == "v0, v1, v2 and 3 more: same"
    assert columns.reasons(replace(table, rows=rows[:2]))[0] == "v0, v1: same"
