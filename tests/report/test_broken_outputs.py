"""Dead parts and values that are not finite are told in every format, whatever an output is called."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from harness.devices.device import Device
from harness.judge.judgement import Judgement
from harness.measure.events import Begin, Event, FidelityLine
from harness.quantize.verify.fidelity import Fidelity
from harness.quantize.verify.output import OutputFidelity
from harness.quantize.verify.parts import Part
from harness.records.run import DeviceRecord
from harness.report import columns, formats
from harness.text import sanitize
from tests.report import runs
from tests.report.runs import FAST, FP32, NASTY

if TYPE_CHECKING:
    pass

ROWS = Part("boxes", axis=1, first=4, last=9, kind="slice", dead=True, noun="row")
COUNTS: dict[str, Any] = {"nan_count": 3, "inf_count": 837, "reference_nan_count": 0, "reference_inf_count": 0, "values": 1000}
WORDS = ("rows 4–9 of boxes are constant in this variant but vary in fp32", "840 of 1000 output values are not finite in this variant (fp32: none)")  # fmt: skip
FORMS = [name for name in formats.FORMATS if name != "github"]


def output(name: str, sqnr: float, **counts: int) -> OutputFidelity:
    return OutputFidelity(name, sqnr, 0.1, 1.0, 0.9, **{**dict.fromkeys(COUNTS, 0), "values": 500, **counts})


def broken(name: str = "boxes") -> Fidelity:
    """Two outputs; rows of the first are constant, values of the second are not finite."""
    outputs = (output(name, 42.6), output("logp", 25.2, **{**COUNTS, "values": 500}))
    sample = Part("logp", sample=7, sqnr_db=3.5, kind="sample")
    return Fidelity(
        mse=0.1, max_error=1.0, sqnr_db=25.2, outputs=outputs, worst_slice=replace(ROWS, output=name, dead=False, sqnr_db=0.0),
        worst_sample=sample, dead=(replace(ROWS, output=name),), unequal_count=840, dead_share=0.3, **COUNTS,
    )  # fmt: skip


def line(figures: Fidelity, case: str = "c1", reference: str = "fp32", device: str = "rpi4") -> FidelityLine:
    said = {"fidelity": figures.as_json(), "reference": reference, "notes": figures.notes_against(reference), "samples": 9}
    return FidelityLine.model_validate({"device": device, "case": case, **said})


def measured(*lines: Event) -> Judgement:
    """A device that measured two cases, with these outputs."""
    events: list[Event] = [Begin(device="rpi4", time=0.0, facts=runs.facts())]
    events += [*runs.blocks("rpi4", "c0", [2.0] * 5), *runs.blocks("rpi4", "c1", [1.0] * 5), *lines]
    record = DeviceRecord(entry=Device(name="rpi4", host="h"))
    cases = [runs.case("c0", FP32), runs.case("c1", FAST)]
    return runs.finish(events, record, variants=[runs.variant(FP32, 4000), runs.variant(FAST)], cases=cases)


def text(form: str, found: Judgement) -> str:
    """What a reader of a format sees."""
    data = formats.render(form, found).decode()
    return json.dumps(json.loads(data), ensure_ascii=False) if form in {"json", "pytest-benchmark"} else data


@pytest.mark.parametrize("form", FORMS)
def test_every_format_says_the_same_words(form: str) -> None:
    shown = text(form, measured(line(broken())))
    for words in (*WORDS, "sample 7 of logp has an SQNR of 3.5 dB, logp as a whole 25.2 dB", "the SQNR is that of logp, the worst of 2 outputs"):  # fmt: skip
        assert words in shown


@pytest.mark.parametrize("form", FORMS)
def test_names_of_outputs_are_escaped(form: str) -> None:
    shown = text(form, measured(line(broken(NASTY))))
    if form == "junit":
        said = "".join(element.text or "" for element in ET.fromstring(shown).iter("system-out"))
        assert sanitize(NASTY) in said
    elif form in {"html", "md"}:
        assert "<script>" not in shown
        assert "&lt;script&gt;" in shown
    elif form == "table":
        assert "\x1b" not in shown
    assert "rows 4–9 of" in shown


def test_an_annotation_names_the_variant_and_the_rows() -> None:
    found = measured(line(broken()))
    (warning,) = [each for each in text("github", found).splitlines() if each.startswith("::warning")]
    assert warning.startswith(f"::warning title={FAST} on rpi4%3A outputs are not finite::{WORDS[0]}; ")
    assert WORDS[1] in warning
    forged = text("github", measured(line(broken(f"x\n::error::{NASTY}"))))
    assert [each.split(" ")[0] for each in forged.splitlines()] == ["::warning", "::notice"]


def test_the_table_marks_an_sqnr_that_does_not_tell_the_whole() -> None:
    column = next(column for column in columns.ACCURACY if column.title == "SQNR")

    def shown(**changes: Any) -> str:
        (table,) = measured(line(replace(broken(), **changes))).tables
        return column.text(table.rows[1])

    assert shown() == "25.2 dB !"
    assert shown(dead=(), unequal_count=0) == "25.2 dB"
    assert shown(sqnr_db=float("-inf"), mse=float("nan"), dead=(), unequal_count=1000) == "not finite !"
    assert shown(sqnr_db=float("inf"), mse=0.0, dead=(), unequal_count=0) == "∞ dB"
    assert shown(identical=True) == "identical"


def test_files_for_programs_count_and_name() -> None:
    found = measured(line(broken()))
    row = list(csv.DictReader(io.StringIO(formats.render("csv", found).decode())))[1]
    expected = {**COUNTS, "unequal_count": 840, "worst_output": "logp", "dead": "rows 4–9 of boxes", "worst_slice": "rows 4–9 of boxes", "worst_slice_sqnr_db": 0.0, "worst_sample": "sample 7 of logp", "worst_sample_sqnr_db": 3.5}  # fmt: skip
    assert {key: row[key] for key in expected} == {key: str(value) for key, value in expected.items()}
    said = json.loads(formats.render("json", found))["devices"][0]["rows"][1]
    assert [(each["name"], each["inf_count"]) for each in said["outputs"]] == [("boxes", 0), ("logp", 837)]
    assert (said["dead"][0]["output"], said["dead"][0]["axis"], said["dead"][0]["first"], said["dead"][0]["last"]) == ("boxes", 1, 4, 9)  # fmt: skip
    (_, extra) = json.loads(formats.render("pytest-benchmark", found))["benchmarks"]
    assert extra["extra_info"]["inf_count"] == 837
    assert extra["extra_info"]["dead"] == "rows 4–9 of boxes"


def test_what_earlier_versions_wrote_still_loads() -> None:
    flat = {"event": "fidelity", "device": "rpi4", "case": "c1", "mse": 0.5, "sqnr_db": 31.0, "accuracy": 0.9, "samples": 9}
    old = FidelityLine.model_validate({**flat, "identical": False, "kl_divergence": 0.1, "metrics": {"WER": 0.2}})
    assert (old.fidelity.mse, old.fidelity.top1_accuracy, old.fidelity.kl_divergence, old.metrics) == (
        0.5,
        0.9,
        0.1,
        {"WER": 0.2},
    )
    row = json.loads(formats.render("json", measured(old)))["devices"][0]["rows"][1]
    assert (row["sqnr_db"], row["accuracy"], row["nan_count"], row["values"]) == (31.0, 0.9, None, None)
    again = FidelityLine.model_validate_json(line(broken()).model_dump_json())
    assert again == line(broken())
