"""Which faults of a candidate's outputs are its own."""

from __future__ import annotations

from typing import Any

from harness.judge.faults import compare
from harness.measure.events import FidelityLine
from harness.quantize.verify.fidelity import Fidelity
from harness.quantize.verify.output import OutputFidelity
from harness.quantize.verify.parts import Part


def line(*dead: Part, reference: str = "fp32", **counts: int) -> FidelityLine:
    """A case's outputs with these dead parts, and these counts of its one output 'y'."""
    names = ("nan_count", "inf_count", "reference_nan_count", "reference_inf_count")
    output = OutputFidelity("y", 30.0, 0.1, 1.0, 0.9, **{**dict.fromkeys(names, 0), "values": 100, **counts})
    return FidelityLine(
        device="board", case="c0", reference=reference, fidelity=Fidelity(values=100, dead=dead, outputs=(output,))
    )


def rows(first: int, last: int, **changes: Any) -> Part:
    return Part(
        **{"output": "y", "axis": 1, "first": first, "last": last, "kind": "slice", "dead": True, "noun": "row", **changes}
    )


WHOLE = Part("y", dead=True)


def test_dead_rows_that_the_baseline_does_not_have_are_new() -> None:
    found = compare(line(), line(rows(4, 9)))
    assert found.new == ("rows 4–9 of y are constant in this variant but vary in fp32",)
    assert (found.shared, found.baseline) == ((), 0)


def test_only_the_rows_beyond_the_baseline_s_are_new() -> None:
    found = compare(line(rows(5, 6)), line(rows(4, 9)))
    assert found.new == ("rows 4 and 7–9 of y are constant in this variant but vary in fp32",)
    assert found.shared == ("rows 5–6 of y are constant in this variant but vary in fp32",)
    assert found.baseline == 1


def test_equal_or_fewer_dead_rows_are_nothing_new() -> None:
    assert compare(line(rows(4, 9)), line(rows(4, 9))).new == ()
    assert compare(line(rows(4, 9)), line(rows(5, 5))).new == ()
    assert compare(line(rows(4, 9)), line()).new == ()
    assert compare(line(rows(4, 9)), line()).shared == ()


def test_another_axis_or_output_is_another_place() -> None:
    assert len(compare(line(rows(4, 9)), line(rows(4, 9, axis=2))).new) == 1
    assert len(compare(line(rows(4, 9)), line(rows(4, 9, output="z"))).new) == 1


def test_in_an_output_that_is_dead_as_a_whole_no_row_is_new() -> None:
    assert compare(line(WHOLE), line(rows(4, 9))).new == ()
    assert compare(line(WHOLE), line(WHOLE)).new == ()
    assert compare(line(rows(4, 9)), line(WHOLE)).new == ("y is constant in this variant but varies in fp32",)


def test_rows_that_no_input_changes_are_named_as_such() -> None:
    found = compare(line(), line(rows(0, 1), rows(3, 3, fixed=True)))
    assert found.new == (
        "rows 0–1 of y are constant in this variant but vary in fp32",
        "row 3 of y is the same for all samples in this variant but varies in fp32",
    )


def test_values_that_are_not_finite_are_held_against_fp32_s_and_the_baseline_s() -> None:
    found = compare(line(), line(inf_count=85))
    assert found.new == ("85 of 100 values of y are not finite in this variant (fp32: none; the baseline: none)",)
    assert compare(line(inf_count=85), line(inf_count=85)).new == ()
    assert compare(line(inf_count=85), line(inf_count=85)).shared != ()
    assert len(compare(line(inf_count=85), line(inf_count=86)).new) == 1
    # What fp32 has itself is no fault.
    assert compare(line(), line(inf_count=5, reference_inf_count=5)).new == ()
    assert len(compare(line(inf_count=5, reference_inf_count=5), line(nan_count=1, reference_inf_count=5)).new) == 1


def test_slices_of_a_model_that_was_trained_anew_are_not_judged() -> None:
    bare = line(rows(4, 9), reference="the baseline").model_copy(update={"unlike": ("y",)})
    assert compare(line(reference="the baseline"), bare).new == ()
    whole = line(WHOLE, reference="the baseline").model_copy(update={"unlike": ("y",)})
    assert compare(line(reference="the baseline"), whole).new == ("y is constant in this variant but varies in the baseline",)
    # Against its own fp32 model a variant has no such excuse.
    assert len(compare(line(), line(rows(4, 9)).model_copy(update={"unlike": ("y",)})).new) == 1


def test_a_name_can_not_begin_a_line() -> None:
    (said,) = compare(line(), line(rows(4, 4, output="y\n::error::z"))).new
    assert said == "row 4 of y ::error::z is constant in this variant but varies in fp32"


def test_a_bare_model_is_told_against_the_baseline() -> None:
    found = compare(line(reference="the baseline"), line(rows(4, 9), reference="the baseline", nan_count=1))
    assert found.new == (
        "rows 4–9 of y are constant in this variant but vary in the baseline",
        "1 of 100 values of y are not finite in this variant (the baseline: none)",
    )
