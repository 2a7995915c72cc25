from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from harness.judge.intervals import Estimate
from harness.judge.judgement import Judgement
from harness.judge.table import Table
from harness.report import charts
from tests.report import runs


def drawn(table: Table) -> tuple[str, list[str]]:
    """A chart and the words on it, which matplotlib leaves as comments beside their outlines."""
    svg = charts.render(table).decode()
    ET.fromstring(svg)
    return svg, re.findall(r"<!-- (.*?) -->", svg)


def with_speedup(table: Table, value: Estimate) -> Table:
    """The table with another speed-up in its second row."""
    return replace(table, rows=(table.rows[0], replace(table.rows[1], speedup=value)))


def test_every_case_is_named_and_has_its_value_or_state(hostile: Judgement) -> None:
    _, words = drawn(hostile.tables[0])
    assert {"fp32", "broken", "short", "never", "refused", "1×", "2×", "0.688× [?]"} <= set(words)
    assert [word for word in words if word in {"failed", "impossible", "unmade"}] == ["failed", "impossible", "unmade"]


def test_the_same_rows_give_the_same_bytes(hostile: Judgement) -> None:
    svg = charts.render(hostile.tables[0])
    assert charts.render(hostile.tables[0]) == svg
    assert b"dc:date" not in svg


def test_a_chart_carries_no_script_and_refers_to_nothing_outside(hostile: Judgement) -> None:
    svg, _ = drawn(hostile.tables[0])
    assert "<script" not in svg
    assert all(target.startswith("#") for target in re.findall(r'xlink:href="([^"]*)"', svg))


@pytest.mark.parametrize(
    ("estimate", "colour"),
    [
        (Estimate(2.0, 1.5, 2.5, 5), charts.FASTER),
        (Estimate(0.5, 0.4, 0.6, 5), charts.SLOWER),
        (Estimate(1.1, 0.9, 1.3, 5), charts.ALIKE),
        (Estimate(2.0, None, None, 2), charts.ALIKE),
    ],
)
def test_the_colour_says_what_the_interval_supports(simple: Judgement, estimate: Estimate, colour: str) -> None:
    svg, _ = drawn(with_speedup(simple.tables[0], estimate))
    assert {each for each in (charts.FASTER, charts.SLOWER) if each in svg} == {colour} - {charts.ALIKE}


@pytest.mark.parametrize("value", [1e-9, 0.999, 1.0001, 300.0, 1e9])
def test_any_ratio_can_be_drawn(simple: Judgement, value: float) -> None:
    svg, words = drawn(with_speedup(simple.tables[0], Estimate(value, value / 1e6, value * 1e6, 3)))
    assert "1×" in words
    assert len(svg) < 200_000


def test_without_fp32_a_measured_case_says_so(simple: Judgement) -> None:
    table = simple.tables[0]
    _, words = drawn(replace(table, rows=(table.rows[0], replace(table.rows[1], speedup=None))))
    assert "there is no fp32 case to compare with" in words


@pytest.mark.parametrize("name", ["批量=8", "a\tb\nc", "$x^{", "$\\frac$", "-->", "W" * 500, "\x07\x1b", "", "🙂" * 3])
def test_any_name_can_be_drawn_without_a_warning(simple: Judgement, name: str) -> None:
    table = simple.tables[0]
    _, words = drawn(replace(table, rows=(replace(table.rows[0], case=name), table.rows[1])))
    assert max(map(len, words)) <= max(charts.LONGEST_NAME, 60)


def test_emulated_and_failed_devices_get_no_chart(hostile: Judgement, emulated: Judgement, simple: Judgement) -> None:
    assert not charts.drawable(emulated.tables[0])
    assert not charts.drawable(replace(simple.tables[0], emulated="qemu"))
    assert not charts.drawable(hostile.tables[1])
    assert charts.drawable(simple.tables[0])
    failed = simple.tables[0].device.model_copy(update={"state": "failed"})
    assert not charts.drawable(replace(simple.tables[0], device=failed))


def test_nothing_to_compare_makes_no_chart() -> None:
    (table,) = runs.simple().tables
    assert not charts.drawable(replace(table, rows=tuple(replace(row, speedup=None) for row in table.rows)))
    assert not charts.drawable(replace(table, rows=()))


def test_a_case_that_failed_later_does_not_count(simple: Judgement) -> None:
    table = simple.tables[0]
    rows = tuple(replace(row, state="failed") for row in table.rows)
    assert not charts.drawable(replace(table, rows=rows))
