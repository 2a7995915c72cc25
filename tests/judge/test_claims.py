"""Claims: which pairs are matched, what supports and refutes them, and what is left open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.devices.device import Device
from harness.devices.facts import Facts, Runtime
from harness.judge import claims
from harness.judge.claims import ClaimVerdict
from harness.measure import pairs
from harness.measure.events import Begin, Event, Failed, FidelityLine
from harness.measure.plan import Case
from harness.measure.route_events import Connected, DeviceFailed
from harness.quantize.recipe import Recipe, Variant
from harness.records.run import DeviceRecord
from harness.report import claims as words
from harness.study.claims_and_gate import ClaimSection
from harness.study.study import ModelSection, Study
from tests import duets
from tests.report.gates import counted
from tests.report.runs import SHA, facts, finish


def variant(name: str, size: int = 1000, state: str = "made", **traits: Any) -> Variant:
    recipe = Recipe.model_validate({"name": name, **traits})
    if state != "made":
        return Variant.model_validate({"recipe": recipe, "state": state, "reason": "no tool makes it"})
    return Variant(recipe=recipe, state="made", sha256=SHA, size=size)


FP32 = variant("fp32", 4000, method="fp32")
FP16 = variant("fp16", 2000, method="fp16")
QDQ = variant("qdq", 1000, method="static", format="QDQ", activation="QUInt8", weight="QInt8", calibration="MinMax")
QOP = variant("qop", 990, method="static", format="QOperator", activation="QUInt8", weight="QInt8", calibration="MinMax")
DYNAMIC = variant("dynamic", 1100, method="dynamic", weight="QInt8")
VARIANTS = [FP32, FP16, QDQ, QOP, DYNAMIC]


def claim(**said: Any) -> ClaimSection:
    return ClaimSection.model_validate({"text": "so it is", **said})


QDQ_FASTER = claim(faster={"format": "QDQ"}, than={"format": "QOperator"})


def cases(variants: list[Variant], runtime: str | None = None) -> list[Case]:
    return [
        Case(id=f"c{number}", name=each.name, variant=each.name, threads=1, provider="CPU", dims={}, runtime=runtime)
        for number, each in enumerate(variants)
        if each.state == "made"
    ]


def duet(first: str, second: str, ratio: float, count: int = 6, spread: float = 0.003, device: str = "board") -> list[Event]:
    """Processes that measured two variants side by side; the first takes so many times longer."""
    ids = {each.name: f"c{number}" for number, each in enumerate(VARIANTS)}
    chance = np.random.default_rng(1)
    return [
        duets.launch(
            device, (ids[first], ids[second]), number, [[round(1e6 * ratio * factor), 1_000_000] for factor in np.exp(spread * chance.normal(size=4))]
        )
        for number in range(count)
    ]  # fmt: skip


def judge(*found: ClaimSection, events: list[Event], emulated: bool = False, variants: list[Variant] | None = None, **entry: Any) -> tuple[ClaimVerdict, ...]:  # fmt: skip
    variants = variants or VARIANTS
    planned = cases(variants)
    study = Study(name="s", model=ModelSection(path=Path("m.onnx")), claim=list(found))
    record = DeviceRecord(entry=Device(name="board", host="h", **entry))
    begin: list[Event] = [Begin(device="board", time=0.0, facts=facts(emulated=emulated))]
    units = pairs.units(planned, {each.name: each for each in variants}, found)
    run = finish([*begin, *events], record, variants=variants, cases=planned, study=study, units=units).run
    return claims.judge(run)


def verdict(said: ClaimSection, events: list[Event], **options: Any) -> ClaimVerdict:
    (found,) = judge(said, events=events, **options)
    return found


def test_a_clear_difference_supports_or_refutes() -> None:
    found = verdict(QDQ_FASTER, duet("qop", "qdq", 1.2))
    assert found.verdict == "supported"
    (pair,) = found.devices[0].pairs
    assert (pair.subject, pair.than) == ("qdq", "qop")
    assert pair.effect is not None
    assert pair.effect.value == pytest.approx(1.2, rel=0.01)
    assert pair.p is not None
    assert pair.p < 0.001
    assert verdict(QDQ_FASTER, duet("qop", "qdq", 0.8)).verdict == "refuted"


def test_a_pair_that_was_measured_the_other_way_round_is_turned() -> None:
    found = verdict(QDQ_FASTER, duet("qdq", "qop", 0.8))
    effect = found.devices[0].pairs[0].effect
    assert found.verdict == "supported"
    assert effect is not None
    assert effect.value == pytest.approx(1.25, rel=0.01)


def test_what_is_open_says_what_could_have_been_seen_and_what_it_would_take() -> None:
    found = verdict(QDQ_FASTER, duet("qop", "qdq", 1.01, spread=0.1))
    assert found.verdict == "open"
    reason = found.devices[0].pairs[0].reason or ""
    assert "the smallest effect that could have been detected is " in reason
    assert "would decide it" in reason
    few = verdict(QDQ_FASTER, duet("qop", "qdq", 1.5, count=2))
    assert (few.verdict, few.devices[0].pairs[0].reason) == ("open", "there are fewer than three launches")


@pytest.mark.parametrize(("ratio", "word"), [(1.2, "refuted"), (2.5, "supported"), (2.0, "open")])
def test_by_how_much(ratio: float, word: str) -> None:
    said = claim(faster={"format": "QDQ"}, than={"format": "QOperator"}, by=2)
    assert verdict(said, duet("qop", "qdq", ratio)).verdict == word


@pytest.mark.parametrize(("ratio", "word"), [(1.1, "refuted"), (1.5, "supported"), (2.2, "refuted")])
def test_between(ratio: float, word: str) -> None:
    said = claim(faster={"format": "QDQ"}, than={"format": "QOperator"}, between=[1.2, 2.0])
    assert verdict(said, duet("qop", "qdq", ratio)).verdict == word


def test_the_same_speed_needs_proof_and_no_mere_lack_of_difference() -> None:
    said = claim(same_speed={"format": "QDQ"}, than={"format": "QOperator"})
    assert verdict(said, duet("qop", "qdq", 1.01)).verdict == "supported"
    assert verdict(said, duet("qop", "qdq", 1.2)).verdict == "refuted"
    assert verdict(said, duet("qop", "qdq", 1.0, spread=0.5)).verdict == "open"


def test_fp32_differs_in_nothing_else_from_any_variant() -> None:
    found = verdict(
        claim(faster={"method": "static"}, than={"method": "fp32"}), duet("fp32", "qdq", 3) + duet("fp32", "qop", 0.9)
    )
    assert [(pair.subject, pair.verdict) for pair in found.devices[0].pairs] == [("qdq", "supported"), ("qop", "refuted")]
    assert found.verdict == "refuted"


def test_static_is_held_against_the_dynamic_variant_of_the_same_weights() -> None:
    found = verdict(claim(faster={"method": "static", "format": "QDQ"}, than={"method": "dynamic"}), duet("dynamic", "qdq", 3))
    assert [(pair.subject, pair.than) for pair in found.devices[0].pairs] == [("qdq", "dynamic")]


def test_an_emulated_device_is_not_judged_on_speed_but_on_instructions() -> None:
    events: list[Event] = [counted(case, number, value) for number in (0, 1) for case, value in (("c2", 1e6), ("c3", 1.1e6))]
    found = verdict(QDQ_FASTER, events, emulated=True)
    (pair,) = found.devices[0].pairs
    assert (found.verdict, pair.reason) == ("not judged", "the device is emulated (qemu), so its times mean nothing")
    assert pair.evidence is not None
    assert pair.evidence.value == pytest.approx(1.1)
    said = claim(faster={"format": "QDQ"}, than={"format": "QOperator"}, metric="instructions")
    assert verdict(said, events, emulated=True).verdict == "supported"
    assert verdict(said, [], emulated=True).devices[0].pairs[0].reason == "instructions were not counted on this device"


def test_places() -> None:
    def on(**where: str) -> str:
        said = claim(faster={"format": "QDQ"}, than={"format": "QOperator"}, on=where)
        return verdict(said, duet("qop", "qdq", 1.2), tags=["a72"]).verdict

    assert on(arch="aarch64") == on(arch="arm64") == on(tag="a72") == on(tag="@a72") == on(feature="asimd") == "supported"
    assert on(device="bo*") == on(emulated="no") == on(runtime="1.31.1") == on(runtime=">=1.24") == "supported"
    assert on(arch="x86_64") == on(tag="x86") == on(feature="avx2") == on(device="rpi*") == on(emulated="icount") == "not judged"
    said = claim(faster={"format": "QDQ"}, than={"format": "QOperator"}, on={"arch": "x86_64"})
    assert verdict(said, []).reason == "no device of this run has arch = x86_64"
    assert on(runtime="<1.24.1") == "not judged"


def test_outcomes() -> None:
    events: list[Event] = [Failed(device="board", case="c4", kind="load", message="ConvInteger"), *duet("fp32", "qdq", 2)]
    assert verdict(claim(fails={"method": "dynamic"}), events).verdict == "supported"
    assert verdict(claim(loads={"method": "dynamic"}), events).verdict == "refuted"
    assert verdict(claim(loads={"name": "qdq"}), events).verdict == "supported"
    unmade = [FP32, variant("fp16", state="failed", method="fp16")]
    found = verdict(claim(fails={"method": "fp16"}), [], variants=unmade)
    assert (found.verdict, found.devices[0].pairs[0].reason) == ("supported", "can't be made: no tool makes it")


def test_sizes_are_exact() -> None:
    found = verdict(claim(smaller={"method": "fp16"}, than={"method": "fp32"}, between=[1.9, 2.1]), duet("fp32", "fp16", 1))
    assert found.verdict == "supported"
    assert verdict(claim(smaller={"format": "QDQ"}, than={"format": "QOperator"}), duet("qop", "qdq", 1)).verdict == "refuted"


def fidelity(case: str, accuracy: float | None, sqnr: float, samples: int = 400) -> FidelityLine:
    return FidelityLine(device="board", case=case, mse=1.0, sqnr_db=sqnr, accuracy=accuracy, samples=samples)


def test_accuracy_with_labels_has_an_error_and_without_goes_by_sqnr() -> None:
    said = claim(more_accurate={"format": "QDQ"}, than={"format": "QOperator"}, by=0.05)
    times = duet("qop", "qdq", 1)
    assert verdict(said, [*times, fidelity("c2", 0.97, 30), fidelity("c3", 0.70, 20)]).verdict == "supported"
    assert verdict(said, [*times, fidelity("c2", 0.97, 30), fidelity("c3", 0.965, 20)]).verdict == "refuted"
    open_one = verdict(said, [*times, fidelity("c2", 0.97, 30, 50), fidelity("c3", 0.93, 20, 50)])
    assert open_one.verdict == "open"
    assert "points" in (open_one.devices[0].pairs[0].reason or "")
    # All right of two samples proves nothing.
    assert verdict(said, [*times, fidelity("c2", 1.0, 30, 2), fidelity("c3", 1.0, 20, 2)]).verdict == "open"
    by_noise = claim(more_accurate={"format": "QDQ"}, than={"format": "QOperator"}, by=6)
    effect = verdict(by_noise, [*times, fidelity("c2", None, 30), fidelity("c3", None, 20)]).devices[0].pairs[0].effect
    assert effect is not None
    assert (effect.value, effect.unit) == (10, "dB")


def test_many_comparisons_ask_more_of_each() -> None:
    # One pair at p = 0.02 is a finding; beside twenty of nothing it is not.
    weak = duet("qop", "qdq", 1.0045, count=3, spread=0.006)
    alone = verdict(QDQ_FASTER, weak)
    others = [claim(faster={"method": "fp16"}, than={"method": "fp32"}) for _ in range(20)]
    among, *_ = judge(QDQ_FASTER, *others, events=[*weak, *duet("fp32", "fp16", 1.0, spread=0.05)])
    first, second = (found.devices[0].pairs[0].p for found in (alone, among))
    assert first is not None
    assert second is not None
    assert second > first


def test_a_device_that_failed_and_claims_without_pairs_say_why() -> None:
    found = verdict(QDQ_FASTER, [DeviceFailed(device="board", step="connect", reason="no route")])
    assert found.verdict == "not judged"
    assert "no route" in words.sentence(found.claim, found.devices[0])
    missing = verdict(claim(faster={"format": "QDQ", "activation": "QInt8"}, than={"format": "QOperator"}), [])
    assert missing.devices[0].reason == "no variant of this study has format = QDQ, activation = QInt8"


def test_words() -> None:
    found = judge(QDQ_FASTER, events=duet("qop", "qdq", 1.2))
    (row,), (style,) = words.rows(found)
    assert (row[:4], row[-1], style) == (("1", "board", "qdq", "qop"), "supported", "good")
    assert row[4].startswith("1.2")
    said = words.lines(found)
    assert said[0] == "[1] so it is: SUPPORTED"
    assert said[1].strip().startswith("board: supported; speed 1.2")
    assert "Benjamini-Hochberg" in said[-1]


def test_two_runtimes_are_judged_each_by_itself() -> None:
    said = claim(fails={"method": "dynamic"}, on={"runtime": "<1.24.1"})
    planned = [
        Case(id=f"c{number}", name=f"dynamic {version}", variant="dynamic", threads=1, provider="CPU", dims={}, runtime=version)
        for number, version in enumerate(("1.31.1", "1.23.2"))
    ]
    entry = Device(name="board", host="h", runtimes=["1.31.1", "1.23.2"])
    study = Study(name="s", model=ModelSection(path=Path("m.onnx")), claim=[said])
    events: list[Event] = [
        Connected(device="board", facts=Facts(arch="aarch64", cores=1, python="3.11", onnxruntime=Runtime())),
        Failed(device="board", case="c1", kind="load", message="ConvInteger"),
    ]
    run = finish(events, DeviceRecord(entry=entry), variants=[DYNAMIC], cases=planned, study=study).run
    (found,) = claims.judge(run)
    assert [(pair.subject, pair.verdict) for pair in found.devices[0].pairs] == [("dynamic 1.23.2", "supported")]
