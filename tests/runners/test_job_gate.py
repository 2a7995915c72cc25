"""The device ends a gate's pair exactly when the controller's rule decides."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.devices import program
from harness.devices.protocol import PROTOCOL
from harness.judge import decision
from harness.measure import plan

LIMIT = 0.02
UNIT = ("c0", "c1")


@pytest.fixture
def job(tmp_path: Path) -> Any:
    """A job with a gate on one pair."""
    request = {
        "protocol": PROTOCOL,
        "cases": [{"id": name, "model": "m", "inputs": "i"} for name in UNIT], "units": [list(UNIT)], "seed": 1, "rounds": 20,
        "least_rounds": decision.FIRST_LOOK, "precision": 0.01, "limits": [[list(UNIT), float(np.log1p(LIMIT))]],
        "t": plan._quantiles(decision.LEVEL),
    }  # fmt: skip
    folder = tmp_path / "store" / "jobs" / "j"
    folder.mkdir(parents=True)
    (folder / "request.json").write_text(json.dumps(request))
    return runpy.run_path(str(program.job()))["Job"](str(folder), "runner")


@pytest.mark.parametrize("slowdown", [0.0, 0.01, 0.018, 0.02, 0.03, 0.1])
def test_both_sides_stop_at_the_same_process(job: Any, slowdown: float) -> None:
    chance = np.random.default_rng(5)
    for _ in range(40):
        slower = np.log1p(slowdown) + 0.006 * chance.normal(size=(20, 4)) + 0.004 * chance.normal(size=(20, 1))
        taken = 0
        for taken in range(1, 21):
            # A device takes the first case, the baseline, over the second.
            job.ratios = {UNIT: (-slower[:taken]).tolist()}
            if job.is_settled(UNIT):
                break
        found = decision.decide(slower.tolist(), LIMIT)
        assert found.processes == taken
        assert (found.verdict == "open") == (taken == 20 and not job.is_settled(UNIT))


def test_no_replicates_settle_nothing(job: Any) -> None:
    job.ratios = {UNIT: [[], [], [], []]}
    assert not job.is_settled(UNIT)
