"""JSON: the run's context and every row, for programs."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from harness.report import claims, figures, gate
from harness.report.csv_file import flat

if TYPE_CHECKING:
    from harness.judge.check import Check
    from harness.judge.intervals import Estimate
    from harness.judge.judgement import Judgement
    from harness.judge.row import Row
    from harness.judge.shortfall import Shortfall
    from harness.judge.table import PairRatio
    from harness.records.run import Run


def render(judgement: Judgement) -> bytes:
    """Write one object; what is not known is null, and no NaN or Infinity appears."""
    return (json.dumps(content(judgement), indent=1, allow_nan=False) + "\n").encode()


def content(judgement: Judgement) -> dict[str, Any]:
    """The object that is written."""
    run, tables = judgement.run, judgement.tables
    return {
        "run": run.id,
        "study": run.study.name,
        "state": judgement.outcome.value,
        "exit": int(judgement.exit),
        "started": run.started.isoformat(),
        "warnings": list(run.warnings),
        "disagreements": list(judgement.disagreements),
        "devices": [
            {
                "device": table.device.entry.name,
                "state": table.device.state,
                "ended": table.device.ended,
                "trouble": table.trouble,
                "shortfall": table.shortfall and _shortfall(table.shortfall),
                "emulated": table.emulated,
                "rounds": table.device.rounds,
                "facts": table.device.facts.model_dump(mode="json") if table.device.facts else None,
                "remarks": list(table.remarks),
                "pairs": [_pair(pair) for pair in table.pairs],
                "checks": [_check(run, check) for check in table.checks],
                "drifts": [
                    {
                        "case": each.case,
                        **_estimate("then_ms", each.then),
                        **_estimate("now_ms", each.now),
                        **_estimate("change", each.change),
                    }
                    for each in table.drifts.cases
                ],
                "noise": table.noise,
                "noise_then": table.drifts.noise and table.drifts.noise[0],
                "differences": [dataclasses.asdict(each) for each in table.drifts.differences],
                "rows": [_row(row) for row in table.rows],
            }
            for table in tables
        ],
        "baseline": run.baseline and {**run.baseline.model_dump(mode="json", include={"name", "kind", "run", "build", "taken"})},
        "gate": gate.verdict(judgement) if judgement.is_gate else None,
        "claims": claims.content(judgement.claims),
    }


def _shortfall(found: Shortfall) -> dict[str, Any]:
    """What is less precise than required; precisions are half a 95 % interval relative to the figure."""
    return {**dataclasses.asdict(found), "sentence": found.sentence}


def _check(run: Run, check: Check) -> dict[str, Any]:
    """A gate's check; ``change`` is a ratio, of accuracy the baseline's minus the candidate's."""
    plain = {key: value for key, value in vars(check).items() if key not in {"change", "confirmed", "id"}}
    return {
        **plain,
        **_estimate("change", check.change),
        **_estimate("confirmed", check.confirmed),
        "sentence": gate.sentence(run, check),
    }


def _row(row: Row) -> dict[str, Any]:
    """A row as in the CSV file, with lists where JSON has them."""
    crowds = [{"sessions": sessions, **_estimate("per_second", each)} for sessions, each in row.throughput]
    lists = {"notes": list(row.notes), "left": list(row.left), "throughput_per_second": crowds}
    return {**flat(row), **lists, **figures.parts(row.fidelity), "metrics": dict(row.metrics)}


def _pair(pair: PairRatio) -> dict[str, Any]:
    return {"first": pair.first, "second": pair.second, **_estimate("ratio", pair.ratio)}


def _estimate(name: str, found: Estimate | None) -> dict[str, Any]:
    return {name: found and found.value, f"{name}_low": found and found.low, f"{name}_high": found and found.high}
