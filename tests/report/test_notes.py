from __future__ import annotations

from dataclasses import replace

from harness.judge.judgement import Judgement
from harness.report import notes


def test_reasons_of_a_measured_device(hostile: Judgement) -> None:
    lines = notes.notes(hostile.tables[0])
    assert sum(line.startswith(("broken: failed: crash:", "never: impossible:", "refused: unmade:")) for line in lines) == 3
    assert "[?]: no interval yet, because there are fewer than three launches" in lines


def test_the_reasons_of_a_failed_device_do_not_repeat_its_trouble(hostile: Judgement) -> None:
    assert not any("the device failed" in line for line in notes.notes(hostile.tables[1]))
    assert any(line.startswith("never: impossible") for line in notes.notes(hostile.tables[1]))


def test_an_emulated_devices_times_are_explained(emulated: Judgement) -> None:
    assert "times are not measured: the device is emulated (qemu)" in notes.notes(emulated.tables[0])
    assert not any(line.startswith("[?]") for line in notes.notes(emulated.tables[0]))


def test_headings(hostile: Judgement) -> None:
    first, second = map(notes.heading, hostile.tables)
    assert first.endswith("(aarch64, 4 cores) · onnxruntime 1.31.1 · 5 rounds")
    assert second == "n1.lab"


def test_what_is_said_of_many_cases_is_said_once(hostile: Judgement) -> None:
    table = hostile.tables[0]
    rows = tuple(replace(table.rows[0], case=f"v{n}", state="measured", reason=None, notes=("same",)) for n in range(6))
    assert notes.notes(replace(table, rows=rows))[0] == "v0, v1, v2 and 3 more: same"
    assert notes.notes(replace(table, rows=rows[:2]))[0] == "v0, v1: same"
