"""Everything that is said of a run, in one object; and a selection of it."""

from __future__ import annotations

import pytest

from harness.errors import Exit, SelectionError
from harness.judge.judgement import Judgement, judge
from harness.judge.outcome import Outcome
from harness.study.claims_and_gate import ClaimSection
from tests.report import gates, runs

SMALLER = ClaimSection.model_validate({"smaller": {"method": "static"}, "than": {"method": "fp32"}, "text": "int8 is smaller"})


@pytest.fixture
def hostile() -> Judgement:
    return runs.hostile()


def test_it_holds_rows_claims_and_the_outcome(hostile: Judgement) -> None:
    assert [table.device.entry.name for table in hostile.tables] == ["rpi4", "n1.lab"]
    assert runs.row(hostile, "rpi4", runs.FAST).state == "measured"
    assert (hostile.claims, hostile.checks, hostile.is_gate) == ((), (), False)
    assert (hostile.failed, hostile.unfinished) == (("n1.lab",), ())
    assert (hostile.outcome, hostile.exit) == (Outcome.INCOMPLETE, Exit.INCOMPLETE)
    assert judge(hostile.run, {}).outcome == hostile.outcome


def test_a_gate_holds_its_checks() -> None:
    passed = gates.gate(gates.launches(0.0, 4))
    assert (passed.is_gate, passed.outcome) == (True, Outcome.PASSED)
    assert [(check.id, check.case, check.verdict) for check in passed.checks] == [("c0", "given", "passed")]


def test_a_selection_keeps_devices_and_variants(hostile: Judgement) -> None:
    found = hostile.select(["n1.lab"], [])
    assert [table.device.entry.name for table in found.tables] == ["n1.lab"]
    assert len(hostile.select(["@arm64"], []).tables) == 2
    (table, _) = hostile.select([], ["static*"]).tables
    assert {row.variant for row in table.rows} == {runs.FAST}
    assert hostile.select([], []).tables == hostile.tables


def test_a_baseline_s_rows_go_with_the_candidate_s() -> None:
    found = gates.gate(gates.launches(0.0, 4)).select([], ["given"])
    assert {row.variant for row in found.tables[0].rows} == {"given", "baseline:given"}
    assert len(found.checks) == 1


def test_a_selector_that_matches_nothing_is_refused(hostile: Judgement) -> None:
    with pytest.raises(SelectionError, match="no device 'rpi5' in this run"):
        hostile.select(["rpi5"], [])
    with pytest.raises(SelectionError, match=r"no variant matches 'int4\*' in this run"):
        hostile.select([], ["int4*"])


def test_other_claims_can_be_judged_on_it(hostile: Judgement) -> None:
    (found,) = hostile.with_claims([SMALLER]).claims
    assert found.claim == SMALLER
