from __future__ import annotations

import json
from typing import Any

from harness.judge.judgement import Judgement
from harness.report import json_file
from tests.report.runs import NASTY


def refuse(constant: str) -> None:
    """NaN and Infinity are no JSON."""
    raise AssertionError(constant)


def read(summary: Judgement) -> dict[str, Any]:
    """The file as another program reads it."""
    found: dict[str, Any] = json.loads(json_file.render(summary), parse_constant=refuse)
    return found


def test_the_context_and_every_row_are_there(hostile: Judgement) -> None:
    found = read(hostile)
    assert (found["run"], found["study"], found["state"], found["warnings"]) == (hostile.run.id, "digits", "incomplete", [NASTY])
    assert found["exit"] == 3
    first, second = found["devices"]
    assert (first["device"], first["state"], first["rounds"], first["trouble"]) == ("rpi4", "measured", 5, None)
    assert (second["state"], second["facts"], second["trouble"]) == ("failed", None, f"connect: {NASTY}")
    assert first["facts"]["cores"] == 4
    assert [row["state"] for row in first["rows"]] == ["measured", "measured", "failed", "measured", "impossible", "unmade"]
    assert first["rows"][3]["median_ms_low"] is None


def test_an_emulated_device_has_no_times(emulated: Judgement) -> None:
    (device,) = read(emulated)["devices"]
    assert device["emulated"] == "qemu"
    assert {row["median_ms"] for row in device["rows"]} == {None}
