"""KL and a study's own metric, from the journal to every format; and runs that know of neither."""

from __future__ import annotations

import csv
import io
import json

import pytest

from harness.devices.device import Device
from harness.judge.judgement import Judgement
from harness.measure.events import ADAPTER, Begin, End, FidelityLine
from harness.records.run import DeviceRecord, Run
from harness.report import benchmark_json, columns, csv_file, html, json_file, markdown, notes, table
from harness.study.study import ModelSection, Study
from tests.report import runs

NASTY = "<b>WER</b> | [red]"


def measured(line: FidelityLine, better: str = "higher") -> Judgement:
    study = Study(name="digits", model=ModelSection.model_validate({"path": "model.onnx", "metric_better": better}))
    events = [Begin(device="rpi4", time=0.0, facts=runs.facts()), *runs.blocks("rpi4", "c0", [2.0, 2.1, 2.0])]
    events += [line, End(device="rpi4", reason="rounds")]
    record = DeviceRecord(entry=Device(name="rpi4", host="10.0.0.9"))
    return runs.finish(events, record, variants=[runs.variant(runs.FP32)], cases=[runs.case("c0", runs.FP32)], study=study)


@pytest.mark.parametrize(("better", "arrow"), [("higher", "↑"), ("lower", "↓")])
def test_they_are_columns(better: str, arrow: str) -> None:
    line = FidelityLine(device="rpi4", case="c0", kl_divergence=0.25, probabilities=True, metrics={NASTY: 0.125, "CER": 2.0})
    judgement = measured(line, better)
    row = {column.title: column.text(judgement.tables[0].rows[0]) for column in columns.of(judgement.tables[0])}
    assert (row["KL"], row[f"{NASTY} {arrow}"], row[f"CER {arrow}"]) == ("0.250", "0.1250", "2.000")
    assert any("probabilities already" in words for words in notes.notes(judgement.tables[0]))


def test_every_format_has_them() -> None:
    judgement = measured(FidelityLine(device="rpi4", case="c0", kl_divergence=0.25, metrics={NASTY: 0.125}))
    (line,) = csv.DictReader(io.StringIO(csv_file.render(judgement).decode()))
    assert (line["kl_divergence"], line["metrics"], line["metrics_better"]) == ("0.25", f"{NASTY}: 0.125", "higher")
    row = json.loads(json_file.render(judgement))["devices"][0]["rows"][0]
    assert (row["kl_divergence"], row["probabilities"], row["metrics"]) == (0.25, False, {NASTY: 0.125})
    extra = json.loads(benchmark_json.render(judgement))["benchmarks"][0]["extra_info"]
    assert (extra["kl_divergence"], extra["metrics"]) == (0.25, {NASTY: 0.125})
    assert "0.1250" in table.render(judgement).decode()
    assert "0.1250" in markdown.render(judgement).decode()
    page = html.render(judgement).decode()
    assert "0.1250" in page
    assert "<b>WER" not in page
    assert Run.model_validate_json(judgement.run.model_dump_json()) == judgement.run


def test_a_journal_from_before_has_neither() -> None:
    line = ADAPTER.validate_python({"event": "fidelity", "device": "rpi4", "case": "c0", "mse": 0.5, "accuracy": 0.9})
    assert isinstance(line, FidelityLine)
    judgement = measured(line)
    titles = [column.title for column in columns.of(judgement.tables[0])]
    assert "KL" not in titles
    assert judgement.tables[0].rows[0].metrics == ()
