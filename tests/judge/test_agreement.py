from __future__ import annotations

from typing import Any

import pytest

from harness.devices.device import Device
from harness.measure.events import Begin, Event, FidelityLine
from harness.quantize.recipe import Recipe, Variant
from harness.quantize.verify.fidelity import Fidelity
from harness.quantize.verify.output import OutputFidelity
from harness.quantize.verify.parts import Part
from harness.records.run import DeviceRecord
from tests import duets
from tests.report.runs import FP32, case, facts, finish, variant

OUTPUTS = (OutputFidelity("y", 42.0, 0.1, 1.0, 0.9, 0, 0, 0, 0, 9),)


def said(
    first: dict[str, Any], second: dict[str, Any], features: tuple[list[str], list[str]], arch: str = "x86_64", **recipe: Any
) -> tuple[str, ...]:
    """What is said of one int8 variant on two devices with these figures and processor features."""
    events: list[Event] = []
    for name, figures, flags in zip(("one", "two"), (first, second), features, strict=True):
        shown = facts().model_copy(update={"features": flags, "arch": arch})
        events += [Begin(device=name, time=0.0, facts=shown), duets.launch(name, ["c0", "c1"], 0, [[2000, 1000]])]
        events += [FidelityLine(device=name, case="c1", **{"samples": 9, **figures})]
    made = Recipe.model_validate({"name": "int8", "method": "static", "weight": "QInt8", "activation": "QUInt8", **recipe})
    variants = [variant(FP32), Variant(recipe=made, state="made", sha256="ab" * 32, size=1)]
    records = [DeviceRecord(entry=Device(name=name, host="h")) for name in ("one", "two")]
    return finish(events, *records, variants=variants, cases=[case("c0", FP32), case("c1", "int8")]).disagreements


def test_equal_accuracy_says_nothing() -> None:
    assert said({"sqnr_db": 35.0, "accuracy": 0.9}, {"sqnr_db": 36.0, "accuracy": 0.9}, ([], [])) == ()


def test_saturation_without_vnni_is_named() -> None:
    (line,) = said({"sqnr_db": 35.0, "accuracy": 0.9}, {"sqnr_db": 20.0, "accuracy": 0.8}, (["avx512_vnni"], ["avx2"]))
    assert line.startswith("int8: top-1 is 90.00 % on one, but 80.00 % on two; likely because two has no VNNI")
    assert "reduce_range = true" in line


def test_half_precision_that_is_computed_is_named() -> None:
    (line,) = said({"sqnr_db": 69.0}, {"sqnr_db": 55.0}, ([], ["asimdhp"]), arch="aarch64", method="fp16")
    assert line == (
        "int8: SQNR is 69.0 dB on one and 55.0 dB on two; likely because two computes in half precision, and the other device converts to float32"
    )


def test_arm_needs_no_vnni() -> None:
    (line,) = said({"sqnr_db": 35.0}, {"sqnr_db": 20.0}, ([], []), arch="aarch64")
    assert line.endswith("their kernels round or accumulate differently")


@pytest.mark.parametrize(("difference", "count"), [(5.0, 0), (7.0, 1)])
def test_over_other_samples_more_is_asked(difference: float, count: int) -> None:
    assert len(said({"sqnr_db": 35.0}, {"sqnr_db": 35.0 - difference, "samples": 3}, ([], []))) == count


def test_parts_that_are_dead_on_one_device_are_named() -> None:
    dead = (Part("y", axis=1, first=4, last=9, kind="slice", dead=True, noun="row"),)
    whole, broken = (
        Fidelity(sqnr_db=35.0, outputs=OUTPUTS, values=9),
        Fidelity(sqnr_db=35.0, outputs=OUTPUTS, values=9, dead=dead),
    )
    (line,) = said({"fidelity": whole}, {"fidelity": broken}, ([], []))
    assert line.startswith("int8: rows 4–9 of y are constant on two and vary on one; ")
    assert said({"fidelity": broken}, {"fidelity": broken}, ([], [])) == ()


def test_values_that_are_not_finite_on_one_device_are_counted() -> None:
    whole, broken = (
        Fidelity(sqnr_db=35.0, outputs=OUTPUTS, values=9),
        Fidelity(sqnr_db=35.0, outputs=OUTPUTS, values=9, inf_count=4),
    )
    (line,) = said({"fidelity": broken}, {"fidelity": whole}, ([], []))
    assert line.startswith("int8: 4 of 9 output values are not finite on one, and all are on two; ")


def test_a_reduced_range_does_not_saturate() -> None:
    (line,) = said({"sqnr_db": 35.0}, {"sqnr_db": 20.0}, ([], []), reduce_range=True)
    assert "VNNI" not in line
