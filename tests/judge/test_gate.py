"""The gate: what is called a regression, what is passed, and what is neither."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import Exit, Failure
from harness.judge import gate
from harness.judge.check import Check
from harness.judge.judgement import judge
from harness.measure.events import End, Event, Failed, FidelityLine
from harness.measure.launch import Launch
from harness.measure.route_events import DeviceFailed
from harness.quantize.verify.fidelity import Fidelity
from harness.quantize.verify.output import OutputFidelity
from harness.quantize.verify.parts import Part
from harness.study.claims_and_gate import GateSection
from tests import duets
from tests.report.gates import PAIR, ROUNDS, accuracy, counted, evaluated, launches, loads
from tests.report.gates import gate as run_of

if TYPE_CHECKING:
    from harness.records.samples import LaunchKey


def only(events: list[Event], asked: GateSection | None = None, **options: Any) -> tuple[Check, Exit]:
    judgement = run_of(events, asked, **options)
    (check,) = judgement.tables[0].checks
    return check, judgement.exit


def metric(name: str, limit: float = 0.05) -> GateSection:
    return GateSection.model_validate({"metric": name, "max_regression": limit})


def test_no_difference_passes() -> None:
    check, code = only(launches(0.0, 6))
    assert (check.verdict, code) == ("passed", Exit.PASSED)
    assert check.processes == 3
    assert check.candidate == pytest.approx(2, rel=0.01)


def test_a_slowdown_is_a_regression_only_once_it_is_confirmed() -> None:
    first = launches(0.05, 4)
    check, code = only(first)
    assert (check.verdict, code) == ("apparent", Exit.INCONCLUSIVE)
    assert gate.suspects([check]) == {"c0"}
    check, code = only(first + launches(0.05, 4, start=ROUNDS, seed=2))
    assert (check.verdict, code) == ("regressed", Exit.REGRESSED)
    assert check.confirmed is not None
    assert check.confirmed.value == pytest.approx(1.05, abs=0.01)
    assert check.processes == 6


def test_an_unconfirmed_slowdown_passes_and_says_so() -> None:
    check, code = only(launches(0.05, 4) + launches(0.0, 4, start=ROUNDS, seed=2))
    assert (check.verdict, code) == ("passed", Exit.PASSED)
    assert "set did not" in (check.reason or "")


def test_a_confirmation_that_does_not_decide_leaves_it_open() -> None:
    check, code = only(launches(0.05, 4) + launches(0.02, 4, start=ROUNDS, seed=2, spread=0.03))
    assert (check.verdict, code) == ("open", Exit.INCONCLUSIVE)
    assert "in the second set" in (check.reason or "")


def test_a_slowdown_within_the_limit_passes() -> None:
    check, code = only(launches(0.03, 6), metric("latency.median"))
    assert (check.verdict, code) == ("passed", Exit.PASSED)


def test_what_lies_at_the_limit_is_open_and_says_why() -> None:
    check, code = only(launches(0.02, 8))
    assert (check.verdict, code) == ("open", Exit.INCONCLUSIVE)
    assert "too close to the limit" in (check.reason or "")
    check, _ = only(launches(0.0, 4, spread=0.2))
    assert "smallest slowdown that could be detected" in (check.reason or "")
    check, _ = only(launches(0.0, 2))
    assert check.reason == "latency.median needs 3 launches, had 2"


def test_a_case_that_failed_is_not_measured_and_never_a_pass() -> None:
    check, code = only([Failed(device="board", case="c0", kind="load", message="no kernel")])
    assert (check.verdict, code) == ("unmeasured", Exit.INCOMPLETE)
    assert check.reason == "the candidate failed: load: no kernel"
    check, code = only([Failed(device="board", case="c1", kind="load", message="no kernel")])
    assert check.reason == "the baseline failed: load: no kernel"


def test_what_was_measured_before_a_case_failed_passes_nothing() -> None:
    check, code = only([*launches(0.0, 6), Failed(device="board", case="c0", kind="crash", message="killed by SIGSEGV")])
    assert (check.verdict, code) == ("unmeasured", Exit.INCOMPLETE)
    assert check.reason == "the candidate failed: crash: killed by SIGSEGV"


def test_a_device_that_failed_is_no_regression() -> None:
    _, code = only([DeviceFailed(device="board", step="connect", reason="no route")], ended=False)
    assert code == Exit.INCOMPLETE
    _, code = only([DeviceFailed(device="board", failure=Failure.BUSY, step="lease", reason="another job")], ended=False)
    assert code == Exit.BUSY
    # It failed after the first set: what looked like a regression is not confirmed.
    events = [*launches(0.05, 4), DeviceFailed(device="board", step="measure", reason="gone")]
    check, code = only(events, ended=False)
    assert (check.verdict, code) == ("apparent", Exit.INCOMPLETE)


def test_time_that_is_up_is_inconclusive() -> None:
    check, code = only([End(device="board", reason="max_time")], ended=False)
    assert (check.verdict, code) == ("open", Exit.INCONCLUSIVE)
    assert check.reason == "the time limit was reached (measure.max_time)"


def test_no_more_time_is_asked_for_once_every_check_is_decided() -> None:
    late = End(device="board", reason="max_time")
    decided = run_of([*launches(0.0, 6), late], ended=False)
    assert (decided.exit, decided.tables[0].shortfall) == (Exit.PASSED, None)
    undecided = run_of([*launches(0.0, 2), late], ended=False).tables[0].shortfall
    assert undecided is not None
    assert undecided.sentence.endswith("give a longer --max-time.")


def test_an_emulated_device_has_instructions_and_no_times() -> None:
    asked = GateSection.model_validate({"metric": ["latency.median", "instructions"], "max_regression": 0.02})
    events: list[Event] = [counted(case, number, value) for number in (0, 1) for case, value in (("c0", 1.01e6), ("c1", 1e6))]
    judgement = run_of(events, asked, emulated=True)
    time, count = judgement.tables[0].checks
    assert (time.verdict, count.verdict) == ("skipped", "passed")
    assert judgement.exit == Exit.PASSED
    judgement = run_of(events, metric("latency.median"), emulated=True)
    assert judgement.exit == Exit.INCOMPLETE


def test_instructions_are_confirmed_by_processes_of_their_own() -> None:
    def counts(start: int, now: float) -> list[Event]:
        return [counted(case, start + number, value) for number in (0, 1) for case, value in (("c0", now), ("c1", 1e6))]

    asked = metric("instructions", 0.02)
    assert only(counts(0, 1.1e6), asked, emulated=True)[0].verdict == "apparent"
    assert only(counts(0, 1.1e6) + counts(ROUNDS, 1.1e6), asked, emulated=True)[0].verdict == "regressed"
    assert only(counts(0, 1.1e6) + counts(ROUNDS, 1e6), asked, emulated=True)[0].verdict == "passed"
    mixed: list[Event] = [*counts(0, 1.1e6), counted("c0", 2, 1e6)]
    assert only(mixed, asked, emulated=True)[0].verdict == "open"


def test_memory() -> None:
    first: list[Event] = [evaluated("c0", 120_000_000), evaluated("c1", 100_000_000), *launches(0.0, 3)]
    again: list[Event] = [evaluated("c0", 121_000_000), evaluated("c1", 100_000_000)]
    assert only(first, metric("memory"))[0].verdict == "apparent"
    check, code = only(first + again, metric("memory"))
    assert (check.verdict, code) == ("regressed", Exit.REGRESSED)
    assert (check.baseline, check.candidate) == (100.0, 121.0)


def test_size_and_accuracy_are_exact() -> None:
    check, code = only(launches(0.0, 3), metric("size"), sizes=(1100, 1000))
    assert (check.verdict, code) == ("regressed", Exit.REGRESSED)
    events = [*launches(0.0, 3), accuracy("c0", 0.95), accuracy("c1", 0.97)]
    assert only(events, metric("accuracy", 0.02))[0].verdict == "passed"
    check, code = only(events, metric("accuracy", 0.01))
    assert (check.verdict, code) == ("regressed", Exit.REGRESSED)
    assert check.change is not None
    assert check.change.value == pytest.approx(0.02)
    check, code = only(launches(0.0, 3), metric("accuracy"))
    assert (check.verdict, code) == ("unmeasured", Exit.INCOMPLETE)


def outputs(identifier: str, **figures: Any) -> FidelityLine:
    """A case's outputs, compared with fp32: 100 values of 'y', in 10 rows."""
    count = {"nan_count": 0, "reference_nan_count": 0, "reference_inf_count": 0, "inf_count": figures.pop("inf_count", 0)}
    output = OutputFidelity("y", figures.get("sqnr_db"), 0.1, 1.0, 0.9, **count, values=100)
    found = Fidelity(**{"mse": 0.1, "values": 100, "outputs": (output,), **count, **figures})
    return FidelityLine(device="board", case=identifier, fidelity=found, samples=10)


DEAD = Part("y", axis=1, first=4, last=9, kind="slice", dead=True, noun="row")


def test_outputs_that_broke_fail_whatever_is_measured() -> None:
    same = launches(0.0, 3)
    judgement = run_of([*same, outputs("c0", sqnr_db=42.0, dead=(DEAD,)), outputs("c1", sqnr_db=42.0)], metric("latency.median"))
    time, check = judgement.tables[0].checks
    assert (time.verdict, check.metric, check.verdict) == ("passed", "outputs", "regressed")
    assert check.faults == ("rows 4–9 of y are constant in this variant but vary in fp32",)
    assert judgement.exit == Exit.REGRESSED
    assert gate.suspects(judgement.tables[0].checks) == set()
    judgement = run_of([*same, outputs("c0", inf_count=85), outputs("c1")], metric("latency.median"))
    assert judgement.exit == Exit.REGRESSED
    assert "85 of 100 values of y are not finite" in judgement.tables[0].checks[1].faults[0]


def test_outputs_that_are_equally_broken_pass_and_say_so() -> None:
    check, code = only([outputs("c0", dead=(DEAD,)), outputs("c1", dead=(DEAD,))], metric("outputs"))
    assert (check.verdict, code, check.faults) == ("passed", Exit.PASSED, ())
    assert (
        check.reason == "the baseline's outputs have the same fault: rows 4–9 of y are constant in this variant but vary in fp32"
    )
    assert (check.baseline, check.candidate) == (1, 1)
    assert only([outputs("c0"), outputs("c1", dead=(DEAD,))], metric("outputs"))[0].verdict == "passed"


def test_an_integer_output_that_is_dead_fails_too() -> None:
    output = OutputFidelity("classes", None, None, None, None, 0, 0, 0, 0, 100, equal=0.1)
    lines = [
        FidelityLine(device="board", case=case, fidelity=Fidelity(equal=0.1, outputs=(output,), dead=dead))
        for case, dead in (("c0", (Part("classes", dead=True),)), ("c1", ()))
    ]
    check, code = only(list(lines), metric("outputs"))
    assert (code, check.faults) == (Exit.REGRESSED, ("classes is constant in this variant but varies in fp32",))


def test_outputs_can_be_left_out_of_a_gate() -> None:
    events = [*launches(0.0, 3), outputs("c0", dead=(DEAD,)), outputs("c1")]
    check, code = only(events, GateSection(max_regression=0.05, check_outputs=False))
    assert (check.metric, check.verdict, code) == ("latency.median", "passed", Exit.PASSED)


def test_outputs_that_were_not_compared_are_not_judged() -> None:
    lost = FidelityLine(device="board", case="c0", reason="the outputs can't be compared: shapes differ")
    judgement = run_of([*launches(0.0, 3), lost, outputs("c1")], metric("latency.median"))
    assert [(each.metric, each.verdict) for each in judgement.tables[0].checks] == [
        ("latency.median", "passed"),
        ("outputs", "skipped"),
    ]
    assert judgement.tables[0].checks[1].reason == "the outputs can't be compared: shapes differ"
    assert judgement.exit == Exit.PASSED
    # The candidate's own fault is told even where the baseline's outputs are not known.
    unknown = FidelityLine(device="board", case="c1", reason="no fp32")
    own = outputs("c0", dead=(DEAD,)).model_copy(update={"notes": ("rows 4–9 of y are constant",)})
    check, _ = only([own, unknown], metric("outputs"))
    assert (check.verdict, check.reason) == ("skipped", "no fp32; rows 4–9 of y are constant")
    # A gate that asks for nothing else is then blind.
    judgement = run_of([lost, outputs("c1")], metric("outputs"))
    assert judgement.exit == Exit.INCOMPLETE
    check, code = only([outputs("c1")], metric("outputs"))
    assert (check.verdict, code) == ("unmeasured", Exit.INCOMPLETE)


def test_outputs_alone_do_not_make_an_emulated_device_pass_a_gate_on_times() -> None:
    judgement = run_of([outputs("c0"), outputs("c1")], metric("latency.median"), emulated=True)
    assert [each.verdict for each in judgement.tables[0].checks] == ["skipped", "passed"]
    assert judgement.exit == Exit.INCOMPLETE


def test_sqnr_is_gated_in_decibels_of_the_worst_output() -> None:
    asked = GateSection.model_validate({"metric": "sqnr", "max_drop_db": 2.0, "check_outputs": False})
    check, code = only([outputs("c0", sqnr_db=33.0), outputs("c1", sqnr_db=35.0)], asked)
    assert (check.verdict, code, check.limit) == ("passed", Exit.PASSED, 2.0)
    check, code = only([outputs("c0", sqnr_db=32.9), outputs("c1", sqnr_db=35.0)], asked)
    assert (check.verdict, code) == ("regressed", Exit.REGRESSED)
    assert check.change is not None
    assert check.change.value == pytest.approx(2.1)


def test_an_sqnr_beyond_what_float32_tells_is_no_difference() -> None:
    asked = GateSection.model_validate({"metric": "sqnr", "check_outputs": False})
    check, _ = only([outputs("c0", sqnr_db=118.0), outputs("c1", mse=0.0, identical=True)], asked)
    assert (check.verdict, check.baseline, check.candidate) == ("passed", 100.0, 100.0)
    check, code = only([outputs("c0", mse=None), outputs("c1", sqnr_db=40.0)], asked)
    assert (check.verdict, code) == ("unmeasured", Exit.INCOMPLETE)
    assert "no SQNR" in (check.reason or "")


def test_agreement_with_fp32_is_gated_in_points() -> None:
    asked = GateSection.model_validate({"metric": "top1_agreement", "max_regression": 0.01, "check_outputs": False})
    assert only([outputs("c0", top1_agreement=0.985), outputs("c1", top1_agreement=0.99)], asked)[0].verdict == "passed"
    assert only([outputs("c0", top1_agreement=0.97), outputs("c1", top1_agreement=0.99)], asked)[1] == Exit.REGRESSED
    check, _ = only([outputs("c0"), outputs("c1")], asked)
    assert (check.verdict, "[batch, classes]" in (check.reason or "")) == ("unmeasured", True)


def test_load_leaves_out_a_process_s_first_sessions() -> None:
    same: list[Event] = [loads(5_000_000, 5_000_000 + number, number) for number in range(12)]
    assert only(same, metric("load"))[0].verdict == "passed"
    slower: list[Event] = [loads(5_000_000, 6_000_000 + number, start + number) for start in (0, ROUNDS) for number in range(12)]
    assert only(slower, metric("load"))[0].verdict == "regressed"


def tail(name: str, count: int) -> tuple[Check, Exit]:
    """A percentile of processes of 200 iterations each, in which both cases take nearly the same time."""
    events: list[Event] = []
    for number in range(count):
        blocks = [[2_000_000 + number * case] * 200 for case in (0, 1)]
        events.append(Launch.model_validate({**duets.line(PAIR, number, duets.rebuild(duets.pair(blocks))), "device": "board"}))
    quantiles: dict[LaunchKey, tuple[float, ...]] = {
        ("board", case, PAIR[1 - position], number): (2e6 + number * position,) * 2
        for position, case in enumerate(PAIR)
        for number in range(count)
    }
    judgement = judge(run_of(events, metric(name)).run, quantiles)
    (check,) = judgement.checks
    return check, judgement.exit


@pytest.mark.parametrize("name", ["latency.p90", "latency.p99", "load"])
def test_fewer_processes_than_a_tail_needs_leave_it_open(name: str) -> None:
    def of(count: int) -> tuple[Check, Exit]:
        events: list[Event] = [loads(5_000_000, 5_000_000 + number, number) for number in range(count)]
        return only(events, metric(name)) if name == "load" else tail(name, count)

    check, code = of(11)
    assert (check.verdict, code) == ("open", Exit.INCONCLUSIVE)
    assert check.reason == f"{name} needs 12 launches, had 11"
    assert of(12)[0].verdict == "passed"


def test_a_tail_that_too_few_iterations_tell_is_not_known() -> None:
    check, code = only(launches(0.0, 12), metric("latency.p99"))
    assert (check.verdict, code) == ("unmeasured", Exit.INCOMPLETE)
    assert "too few iterations" in (check.reason or "")


def test_limits_of_devices_and_variants() -> None:
    asked = GateSection.model_validate(
        {
            "max_regression": 0.05,
            "limit": [
                {"metric": "latency.median", "max_regression": 0.1, "device": "@slow"},
                {"metric": "latency.median", "max_regression": 0.2, "device": "board", "variant": "static-*"},
                {"metric": "size", "max_regression": 0.3},
                {"metric": "sqnr", "max_drop_db": 3.0, "variant": "static-*"},
            ],
        }
    )
    assert gate.limit_of(asked, "latency.median", "other", [], "fp32") == 0.05
    assert gate.limit_of(asked, "latency.median", "other", ["slow"], "fp32") == 0.1
    assert gate.limit_of(asked, "latency.median", "board", ["slow"], "static-QDQ") == 0.2
    assert gate.limit_of(asked, "size", "other", [], "fp32") == 0.3
    assert gate.limit_of(asked, "memory", "other", [], "fp32") is None
    assert gate.limit_of(asked, "sqnr", "other", [], "static-QDQ") == 3.0
    assert gate.limit_of(asked, "sqnr", "other", [], "fp32") is None
    assert gate.limit_of(asked, "outputs", "other", [], "fp32") == 0.0


def test_the_baseline_s_own_drift_is_told_apart() -> None:
    judgement = run_of(launches(0.0, 6))
    (drift,) = judgement.tables[0].drifts.cases
    # 2 µs then, 2 ms now.
    assert drift.change.value == pytest.approx(1000, rel=0.01)
    assert [each.field for each in judgement.tables[0].drifts.differences if each.decisive] == ["cpu"]
    assert {each.field for each in judgement.tables[0].drifts.differences} >= {"kernel", "onnxruntime"}


def test_an_interrupted_gate_never_passes() -> None:
    run = run_of(launches(0.0, 6)).run.model_copy(update={"state": "interrupted"})
    assert judge(run, {}).exit == Exit.INTERRUPTED
