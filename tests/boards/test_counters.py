"""The kernel's counters (perf_event_open) on the boards' emulated armv8_pmuv3, against the clock that counts instructions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.measure import request
from tests.boards.conftest import CORES, Bench, rows
from tests.conftest import DIGITS

if TYPE_CHECKING:
    from typing import Any

pytestmark = [pytest.mark.boards, pytest.mark.slow]

CASE = "static-QDQ-U8S8"


def by_kernel(bench: Bench, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Measure one variant on the boards as on real devices, whose kernel counts."""
    patch.setattr(request, "counter", lambda *_: "perf")
    for name, value in bench.environment.items():
        patch.setenv(name, value)
    patch.chdir(bench.folder)
    words = ["run", str(DIGITS), "--device", "@arm64", "--variant", CASE, "--max-time", "30m", "--json"]
    content: dict[str, Any] = json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)
    return content


def test_the_kernel_counts_what_the_clock_counts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = rows(bench.measure(str(DIGITS), "--device", "@arm64", "--variant", CASE))
    content = by_kernel(bench, monkeypatch)
    assert [device["facts"]["uncountable"] for device in content["devices"]] == [None, None]
    kernel = rows(content)
    for name in CORES:
        counted = kernel[name][CASE]
        # The clock sees the kernel's own instructions too, the counter only ours.
        assert counted["instructions_millions"] == pytest.approx(clock[name][CASE]["instructions_millions"], rel=5e-3)
        assert counted["cycles_millions"] > 0
        assert clock[name][CASE]["cycles_millions"] is None
