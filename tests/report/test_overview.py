from __future__ import annotations

from harness.judge.judgement import Judgement
from harness.report import overview


def test_the_overview_has_a_column_for_each_device(hostile: Judgement) -> None:
    header, lines = overview.overview(hostile.tables)
    assert header == ["variant", "rpi4", "n1.lab ✗ connect"]
    cells = {line[0].split()[0]: line[1:] for line in lines}
    assert cells["short"] == ["3.05 ms  0.688× [?]", "–"]
    assert cells["broken"] == ["failed", "–"]
    assert cells["never"] == ["impossible", "impossible"]


def test_the_overview_of_an_emulated_device_shows_no_times(emulated: Judgement) -> None:
    assert {line[1] for line in overview.overview(emulated.tables)[1]} == {"–"}
