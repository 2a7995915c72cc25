"""How a gate reads in each format."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

from harness.judge.judgement import Judgement
from harness.measure.events import Event, FidelityLine
from harness.measure.route_events import DeviceFailed
from harness.quantize.verify.fidelity import Fidelity
from harness.quantize.verify.output import OutputFidelity
from harness.quantize.verify.parts import Part
from harness.report import formats, github
from harness.report import gate as words
from harness.study.claims_and_gate import GateSection
from tests.report.gates import ROUNDS, baseline, gate, launches
from tests.report.runs import NASTY
from tests.report.test_junit import SCHEMA

SLOW = [*launches(0.05, 4), *launches(0.05, 4, start=ROUNDS, seed=2)]

OUTPUTS = (OutputFidelity("y", 42.0, 0.1, 1.0, 0.9, 0, 0, 0, 0, 9),)


def test_a_regression_is_a_sentence_with_ratio_interval_limit_and_build() -> None:
    judgement = gate(SLOW)
    said = words.sentence(judgement.run, judgement.tables[0].checks[0])
    assert said.startswith("given on board: latency.median got worse: 2.00 ms → 2.10 ms, +")
    assert " [+" in said
    assert "where +2 % is allowed, against baseline '2.3' (run ocr/2026-11-13 of 2026-11-13 09:00 UTC, https://ci/7)" in said
    assert "; the change is from a second set of 3 launches, which confirms the first (+" in said
    assert words.verdict(judgement).startswith("REGRESSED: 1 regressed; against baseline '2.3'")


def test_junit_has_a_class_for_each_device_and_a_test_for_each_metric() -> None:
    root = ET.fromstring(formats.render("junit", gate(SLOW)))
    assert root.attrib["failures"] == "1"
    (case,) = root.iter("testcase")
    assert (case.attrib["classname"], case.attrib["name"]) == ("ocr.board", "given.latency.median")
    (failure,) = case.iter("failure")
    assert "got worse" in failure.attrib["message"]
    properties = {each.attrib["name"]: each.attrib["value"] for each in root.iter("property")}
    assert properties["build"] == "https://ci/8"
    assert properties["baseline"].startswith("baseline '2.3'")


def test_junit_s_names_outlive_a_runtime_s_upgrade() -> None:
    judgement = gate(SLOW, against=baseline(kind="runtime", name="onnxruntime==1.23.2"))
    versioned = replace(
        judgement.tables[0],
        checks=tuple(replace(each, case="given onnxruntime=1.31.1 threads=2") for each in judgement.tables[0].checks),
    )
    (case,) = ET.fromstring(formats.render("junit", judgement.with_tables([versioned]))).iter("testcase")
    assert case.attrib["name"] == "given threads=2.latency.median"
    assert "onnxruntime=1.31.1" in case[0].attrib["message"]


def test_junit_never_passes_what_was_not_decided() -> None:
    for events, child in ((launches(0.02, 8), "skipped"), (launches(0.05, 4), "skipped"), ([], "error")):
        (case,) = ET.fromstring(formats.render("junit", gate(events))).iter("testcase")
        assert [each.tag for each in case if each.tag != "system-out"] == [child]
    (case,) = ET.fromstring(formats.render("junit", gate(launches(0.0, 4)))).iter("testcase")
    assert [each.tag for each in case] == ["system-out"]


def test_a_device_that_failed_is_an_error_in_junit_and_no_failure() -> None:
    down: list[Event] = [DeviceFailed(device="board", step="connect", reason="no route")]
    root = ET.fromstring(formats.render("junit", gate(down, ended=False)))
    assert root.attrib["failures"] == "0"
    assert root.attrib["errors"] == "2"


def test_junit_keeps_to_the_schema_of_jenkins() -> None:
    down: list[Event] = [*SLOW, DeviceFailed(device="board", step="connect", reason=NASTY)]
    for summary in (gate(SLOW), gate(launches(0.02, 8)), gate(down, ended=False), gate([])):
        for element in ET.fromstring(formats.render("junit", summary)).iter():
            assert set(element.attrib) <= SCHEMA[element.tag], element.tag


def test_annotations_can_not_be_forged() -> None:
    down: list[Event] = [DeviceFailed(device="board", step="connect", reason=f"x\n::error::{NASTY}")]
    judgement = gate([*SLOW, *down], ended=False)
    lines = github.render(judgement).decode().splitlines()
    assert [line.split(" ")[0] for line in lines] == ["::warning", "::error", "::notice"]
    assert "%0A" in lines[0]
    assert "+5." in lines[1]


def test_the_table_ends_with_the_verdict() -> None:
    text = formats.render("table", gate(SLOW)).decode()
    assert "regressed" in text
    assert "the baseline itself since 2026-11-13 09:00 UTC: given: 0.00200 → 2.00 ms" in text
    assert text.rstrip().splitlines()[-1].startswith("REGRESSED")
    markdown = formats.render("md", gate(SLOW)).decode()
    assert "**REGRESSED: " in markdown
    page = formats.render("html", gate(SLOW)).decode()
    assert 'class="verdict regressed"' in page


def test_json_holds_every_check() -> None:
    found = json.loads(formats.render("json", gate(SLOW)))
    (check,) = found["devices"][0]["checks"]
    assert check["verdict"] == "regressed"
    assert check["change_low"] < check["change"] < check["change_high"]
    assert check["confirmed"] > 1.04
    assert found["baseline"]["name"] == "2.3"
    assert found["devices"][0]["drifts"][0]["case"] == "given"


def broken() -> Judgement:
    """The candidate's rows are dead, in an output with a hostile name."""
    part = Part(NASTY, axis=1, first=4, last=9, kind="slice", dead=True, noun="row")
    lines = [
        FidelityLine(device="board", case=case, fidelity=Fidelity(values=9, sqnr_db=42.0, dead=dead, outputs=OUTPUTS), notes=())
        for case, dead in (("c0", (part,)), ("c1", ()))
    ]
    return gate([*launches(0.0, 3), *lines], GateSection(max_regression=0.05))


def test_junit_names_the_output_and_the_slice() -> None:
    root = ET.fromstring(formats.render("junit", broken()))
    time, outputs = root.iter("testcase")
    assert [each.tag for each in time] == ["system-out"]
    assert outputs.attrib["name"] == "given.outputs"
    (failure,) = outputs.iter("failure")
    said = failure.attrib["message"]
    assert said.startswith("given on board: outputs got worse: rows 4–9 of <script>")
    assert "are constant in this variant but vary in fp32; baseline '2.3'" in said
    assert said.endswith(" does not have this fault")
    for element in root.iter():
        assert set(element.attrib) <= SCHEMA[element.tag], element.tag


def test_all_formats_of_a_gate_say_the_same_of_the_outputs() -> None:
    judgement = broken()
    cells = words.cells(judgement.tables[0].checks[1])
    assert cells[1:7] == ["outputs", "sound", "1 fault", "–", "no new fault", "regressed"]
    tail = "are constant in this variant but vary in fp32; baseline"
    for form in ("table", "html", "md", "github"):
        text = formats.render(form, judgement).decode()
        assert tail in text
        assert "does not have this fault" in text
        assert "REGRESSED: 1 regressed, 1 passed" in text
    (line,) = (line for line in github.render(judgement).decode().splitlines() if line.startswith("::error"))
    assert line.startswith("::error title=given on board%3A outputs regressed::")
    check = json.loads(formats.render("json", judgement))["devices"][0]["checks"][1]
    assert (check["metric"], check["verdict"], len(check["faults"])) == ("outputs", "regressed", 1)


def test_what_both_sides_have_is_said_by_a_gate_that_passes() -> None:
    part = Part("scores", dead=True)
    lines = [
        FidelityLine(device="board", case=case, fidelity=Fidelity(values=9, dead=(part,), outputs=OUTPUTS))
        for case in ("c0", "c1")
    ]
    judgement = gate([*launches(0.0, 3), *lines], GateSection(max_regression=0.05))
    said = "the baseline's outputs have the same fault: scores is constant in this variant but varies in fp32"
    for form in ("table", "md", "junit", "github"):
        assert said in formats.render(form, judgement).decode().replace("&apos;", "'")
    assert github.render(judgement).decode().startswith("::notice title=given on board%3A outputs passed::")


def test_sqnr_and_agreement_have_units_of_their_own() -> None:
    asked = GateSection.model_validate({"metric": ["sqnr", "top1_agreement"], "max_regression": 0.01})
    lines = [FidelityLine(device="board", case=case, fidelity=Fidelity(values=9, sqnr_db=sqnr, top1_agreement=share)) for case, sqnr, share in (("c0", 31.25, 0.97), ("c1", 35.0, 0.99))]  # fmt: skip
    judgement = gate(lines, asked)
    assert words.cells(judgement.tables[0].checks[0])[2:7] == ["35.0 dB", "31.2 dB", "-3.8 dB", "-1 dB", "regressed"]
    assert words.cells(judgement.tables[0].checks[1])[2:7] == ["99.00 %", "97.00 %", "-2.00 points", "-1 points", "regressed"]


def test_values_have_their_metric_s_unit() -> None:
    asked = GateSection.model_validate({"metric": ["size"], "max_regression": 0.05})
    judgement = gate(launches(0.0, 3), asked, sizes=(2_100_000, 2_000_000))
    cells = words.cells(judgement.tables[0].checks[0])
    assert cells[2:6] == ["2.00 MB", "2.10 MB", "+5.0 %", "+5 %"]
    assert words.verdict(judgement).startswith("PASSED")


def test_a_device_that_is_noisier_than_its_baseline_is_named() -> None:
    judgement = gate(launches(0.0, 4))
    (table,) = judgement.tables
    for noise, said in (((0.002, 0.021), True), ((0.002, 0.003), False), ((0.02, 0.03), False), (None, False)):
        notes = words.notes(judgement.run, replace(table, drifts=replace(table.drifts, noise=noise)))
        assert any("the device is noisier than when the baseline was saved" in note for note in notes) == said, noise
    noisier = next(
        note
        for note in words.notes(judgement.run, replace(table, drifts=replace(table.drifts, noise=(0.002, 0.021))))
        if "noisier" in note
    )
    assert "differ by ±2.1 % (then ±0.2 %)" in noisier
    assert f"harness devices --noise --device {table.device.entry.name}" in noisier


def test_the_noise_of_then_and_now_is_in_json() -> None:
    judgement = gate(launches(0.0, 4))
    (table,) = judgement.tables
    loud = replace(table, noise=0.021, drifts=replace(table.drifts, noise=(0.002, 0.021)))
    (found,) = json.loads(formats.render("json", judgement.with_tables([loud])))["devices"]
    assert (found["noise"], found["noise_then"]) == (0.021, 0.002)
