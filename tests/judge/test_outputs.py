"""What the check of outputs says beside its verdict."""

from __future__ import annotations

from harness.judge import outputs
from harness.judge.check import Check
from tests.judge.test_faults import line

NOTE = "output 'p' (sequence of maps) is not compared, because only tensors of numbers are"


def test_a_pass_names_outputs_that_were_not_compared() -> None:
    empty = Check("board", "c0", "outputs", "skipped", 0.0)
    candidate = line().model_copy(update={"notes": ("something else",), "uncompared": NOTE})
    found = outputs.check(empty, line(), candidate)
    assert (found.verdict, found.reason) == ("passed", NOTE)
    nothing = candidate.model_copy(update={"fidelity": type(candidate.fidelity)()})
    skipped = outputs.check(empty, line(), nothing)
    assert skipped.verdict == "skipped"
    assert NOTE in (skipped.reason or "")
