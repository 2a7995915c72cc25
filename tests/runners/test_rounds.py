"""The device ends a gate's pair exactly when the controller's rule decides."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from harness.judge import decision
from harness.measure import request
from harness.paths import RUNNERS

LIMIT = 0.02
UNIT = ("c0", "c1")


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The rounds of a job with a gate on one pair."""
    monkeypatch.syspath_prepend(RUNNERS / "job")
    from rounds import Rounds

    asked = {
        "rounds": 20, "least_rounds": decision.FIRST_LOOK, "precision": 0.01, "t": request.quantiles(decision.LEVEL),
        "limits": [[list(UNIT), float(np.log1p(LIMIT))]],
    }  # fmt: skip
    return Rounds(cast("Any", SimpleNamespace(request=asked)))


@pytest.mark.parametrize("slowdown", [0.0, 0.01, 0.018, 0.02, 0.03, 0.1])
def test_both_sides_stop_at_the_same_process(rounds: Any, slowdown: float) -> None:
    chance = np.random.default_rng(5)
    for _ in range(40):
        slower = np.log1p(slowdown) + 0.006 * chance.normal(size=(20, 4)) + 0.004 * chance.normal(size=(20, 1))
        taken = 0
        for taken in range(1, 21):
            # A device takes the first case, the baseline, over the second.
            rounds.ratios = {UNIT: (-slower[:taken]).tolist()}
            if rounds.is_settled(UNIT):
                break
        found = decision.decide(slower.tolist(), LIMIT)
        assert found.processes == taken
        assert (found.verdict == "open") == (taken == 20 and not rounds.is_settled(UNIT))


def test_no_replicates_settle_nothing(rounds: Any) -> None:
    rounds.ratios = {UNIT: [[], [], [], []]}
    assert not rounds.is_settled(UNIT)
