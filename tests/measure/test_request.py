from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.devices.device import Device
from harness.devices.facts import Emulation, Facts, Runtime
from harness.measure import plan, request
from harness.measure.events import FidelityLine
from harness.measure.work import Work
from harness.quantize.recipe import Recipe, Variant
from harness.study.study import MeasureSection

if TYPE_CHECKING:
    from collections.abc import Sequence

    import protocol

FACTS = Facts(arch="aarch64", cores=4, python="3.11.2", onnxruntime=Runtime(version="1.31.1"), uncountable=None)


def variant(name: str, state: str = "made") -> Variant:
    return Variant.model_validate(
        {"recipe": Recipe(name=name, method="fp32"), "state": state, "sha256": name, "size": 1, "path": Path(name)}
    )


def ask(
    cases: Sequence[plan.Case],
    units: Sequence[tuple[str, ...]],
    variants: Sequence[Variant],
    device: Device,
    measure: MeasureSection | None = None,
    facts: Facts = FACTS,
    **more: Any,
) -> protocol.Plan:
    """The request for a device, for cases with one set of dimensions."""
    inputs = plan.Inputs(path=Path("i"), sha256="inputs", names=("x",), dims=cases[0].dims)
    named = {each.name: each for each in variants}
    bar, hashes = more.get("bar"), more.get("hashes")
    section = measure or MeasureSection()
    work = Work(tuple(cases), tuple(units), named, [inputs], section, lambda *_: FidelityLine(device="b", case="c0"), 1, bar)
    return request.request(work, device, facts, hashes)


def test_the_request_names_files_by_hash_and_keeps_the_devices_cores() -> None:
    variants = [variant("fp32"), variant("int8")]
    cases = plan.cases(variants, MeasureSection(rounds=2), [{"n": 3}])
    device = Device(name="board", host="h", cpus=[2, 3])
    asked = ask(cases, [("c0", "c1")], variants, device, MeasureSection(rounds=2))
    assert [(case["id"], case["model"], case["inputs"]) for case in asked["cases"]] == [
        ("c0", "fp32", "inputs"),
        ("c1", "int8", "inputs"),
    ]
    assert asked["cpus"] == [2, 3]
    assert (asked["rounds"], asked["units"]) == (2, [["c0", "c1"]])
    assert asked["t"][:2] == [12.706205, 4.302653]
    assert "governor" not in asked


@pytest.mark.parametrize(
    ("arch", "names"),
    [
        ("x86_64", ["fp32", "amd64"]),
        ("aarch64", ["fp32", "arm"]),
        ("armv7l", ["fp32", "arm"]),
        ("riscv64", ["fp32"]),
    ],
)
def test_a_file_for_one_platform_is_asked_of_that_platform_only(arch: str, names: list[str]) -> None:
    variants = {"fp32": variant("fp32")}
    for platform in ("amd64", "arm"):
        recipe = Recipe.model_validate({"name": platform, "method": "prepared", "file_format": f"ort-{platform}"})
        variants[platform] = variant(platform).model_copy(update={"recipe": recipe})
    cases = plan.cases(list(variants.values()), MeasureSection(), [{"n": 1}])
    inputs = plan.Inputs(path=Path("i"), sha256="inputs", names=("x",), dims={"n": 1})
    facts = FACTS.model_copy(update={"arch": arch})
    asked = ask(cases, [("c0", "c1"), ("c0", "c2")], list(variants.values()), Device(name="b", host="h"), facts=facts)
    assert [case["model"] for case in asked["cases"]] == names
    assert len(asked["units"]) == len(names) - 1
    work = Work(cases, (), variants, [inputs], MeasureSection(), lambda *_: FidelityLine(device="b", case="c0"), 1)
    assert set(work.files(arch)) == {"inputs", *names}
    misplaced = [plan.misplaced(found, arch) for found in variants.values()]
    assert [reason is None for reason in misplaced] == [name in names for name in variants]
    assert all(f"this device is {arch}" in reason for reason in misplaced if reason)


@pytest.mark.parametrize(
    ("emulated", "said", "uncountable", "counting", "counter", "timed"),
    [
        (None, None, None, True, "perf", True),
        (None, None, "no PMU", True, None, True),
        (None, None, None, False, None, True),
        ("icount", None, "no PMU", True, "icount", False),
        ("icount", "qemu", None, True, "icount", False),
        ("wall", None, None, True, None, False),
        (None, "qemu", None, True, None, False),
    ],
)
def test_what_counts_and_whether_times_are_taken(
    emulated: str | None, said: str | None, uncountable: str | None, counting: bool, counter: str | None, timed: bool
) -> None:
    device = Device.model_validate({"name": "board", "host": "h", "emulated": emulated})
    facts = FACTS.model_copy(update={"uncountable": uncountable, "emulated": Emulation(by=said, evidence="e") if said else None})
    measure = MeasureSection(rounds=2, counting=counting)
    cases = plan.cases([variant("fp32")], measure, [{"n": 1}])
    asked = ask(cases, [("c0",)], [variant("fp32")], device, measure, facts)
    assert asked["counter"] == counter
    assert asked["units"] == ([["c0"]] if timed else [])
    assert asked["samples"] == (None if timed else measure.emulated_samples)


def test_optimization_levels_and_governors_travel() -> None:
    measure = MeasureSection(optimization=["all", "disabled"], throughput=[2])
    cases = plan.cases([variant("fp32")], measure, [{"n": 1}])
    assert [case.name for case in cases] == ["fp32 optimization=all", "fp32 optimization=disabled"]
    device = Device(name="board", host="h", governor="performance")
    asked = ask(cases, [], [variant("fp32")], device, measure)
    assert [case["optimization"] for case in asked["cases"]] == ["all", "disabled"]
    assert (asked["governor"], asked["throughput"]) == ("performance", [2])


def test_runtimes_are_a_dimension_and_a_device_gets_its_own() -> None:
    old, new, plain = (
        Device(name="old", host="h", runtimes=["1.23.2"]),
        Device(name="new", host="h", runtimes=["1.31.1", "1.23.2"]),
        Device(name="plain", host="h"),
    )
    versions = plan.runtimes([old, new, plain])
    assert versions == ("1.23.2", "1.31.1", None)
    cases = plan.cases([variant("fp32")], MeasureSection(), [{"n": 1}], versions)
    assert [case.name for case in cases] == ["fp32 onnxruntime=1.23.2", "fp32 onnxruntime=1.31.1", "fp32 onnxruntime=own"]
    units = [("c0",), ("c0", "c1"), ("c2",)]
    asked = [ask(cases, units, [variant("fp32")], device, hashes={"1.23.2": "hash"}) for device in (old, new, plain)]
    assert [[case["runtime"] for case in each["cases"]] for each in asked] == [["hash"], ["hash", None], [None]]
    assert [each["units"] for each in asked] == [[["c0"]], [["c0"], ["c0", "c1"]], [["c2"]]]


def test_a_gate_s_limits_travel_to_the_devices_that_they_are_for() -> None:
    cases = plan.cases([variant("old"), variant("new")], MeasureSection(), [{}])
    bar = plan.Bar({"board": {("c0", "c1"): 0.05}}, level=0.995, first_look=3, first_round=20)

    def asked(name: str) -> protocol.Plan:
        device = Device(name=name, host="h")
        return ask(cases, [("c0", "c1")], [variant("old"), variant("new")], device, bar=bar)

    found = asked("board")
    ((unit, limit),) = found["limits"]
    assert unit == ["c0", "c1"]
    assert limit == pytest.approx(math.log1p(0.05))
    assert (found["least_rounds"], found["first_round"]) == (3, 20)
    assert found["t"][:1] == [127.321336]
    assert asked("other")["limits"] == []
