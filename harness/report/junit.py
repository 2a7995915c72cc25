"""junit.xml: a suite for each device and a test for each case, or for each metric of a release gate, for Jenkins and its like.

A test's time is the case's median, so that a server's trend of test times is that of latencies. The attributes are those that the
xunit plugin's schema knows: no properties on tests, no count of skipped tests on the root, three decimals in a suite's time.
"""

from __future__ import annotations

import io
import re
from datetime import UTC
from typing import TYPE_CHECKING

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from harness.report import columns, gate
from harness.text import sanitize

if TYPE_CHECKING:
    from harness.judge.check import Check
    from harness.judge.judgement import Judgement
    from harness.judge.row import Row
    from harness.judge.table import Table
    from harness.records.run import Run

METRIC = "latency.median"
COUNTED = "instructions"
NOT_REACHED = "the run ended before this case"


def render(judgement: Judgement) -> bytes:
    """Write the file."""
    run = judgement.run
    suites = [_suite(run, table) for table in judgement.tables]
    root = JUnitXml(run.study.name)
    root.tests, root.failures, root.errors = (sum(getattr(suite, what) for suite in suites) for what in ("tests", "failures", "errors"))  # fmt: skip
    root.time = round(sum(suite.time for suite in suites), 3)
    for suite in suites:
        root.add_testsuite(suite)
    out = io.BytesIO()
    root.write(out)
    return out.getvalue()


def _suite(run: Run, table: Table) -> TestSuite:
    """A device's suite; its time is what its blocks took."""
    name = table.device.entry.name
    suite = TestSuite(f"{run.study.name}.{name}")
    for title, value in _properties(run, table):
        suite.add_property(title, _line(value))
    cases = [_device(run, table)] if table.incomplete else []
    tests = [_check(run, check) for check in table.checks] if run.baseline else [_case(run, table, row) for row in table.rows]
    suite.add_testcases(cases + tests)
    rebuilds = [rebuild for launch in run.launches if launch.device == name for rebuild in launch.rebuilds]
    suite.time = round(sum(pair.wall_ns for rebuild in rebuilds for pair in rebuild.pairs) / 1e9, 3)
    suite.timestamp = f"{run.started.astimezone(UTC):%Y-%m-%dT%H:%M:%S}"
    return suite


def _properties(run: Run, table: Table) -> list[tuple[str, str]]:
    """The properties of a suite: what its numbers depend on."""
    facts = table.device.facts
    found = {
        "run": run.id,
        "model.sha256": run.model_sha256,
        "harness": run.versions.harness,
        "cpu": facts and (facts.cpu_model or facts.arch),
        "arch": facts and facts.arch,
        "onnxruntime": facts and facts.onnxruntime.version,
        "emulated": table.emulated,
        "build": run.build,
        "baseline": run.baseline and run.baseline.described,
        "shortfall": table.shortfall and table.shortfall.sentence,
    }
    return [(title, value) for title, value in found.items() if value]


def _device(run: Run, table: Table) -> TestCase:
    """A failing test for a device without results, because a file without tests counts as broken."""
    case = TestCase("device", f"{run.study.name}.{table.device.entry.name}", 0)
    lost = table.device.state == "failed" or run.baseline is not None
    case.result = _result(Error if lost else Skipped, table.trouble or NOT_REACHED, table.device.state)
    return case


def _case(run: Run, table: Table, row: Row) -> TestCase:
    """A case's test: it passes if it was measured, whatever the time."""
    metric = COUNTED if table.emulated and row.instructions else METRIC
    case = TestCase(_line(f"{row.case}.{metric}"), f"{run.study.name}.{table.device.entry.name}", 0)
    if row.state in {"failed", "unmade"}:
        case.result = _result(Error, row.reason or row.state, row.state)
    elif row.state != "measured":
        case.result = _result(Skipped, row.reason or row.state, row.state)
    elif row.median is None and metric != COUNTED:
        why = f"the device is emulated ({table.emulated})" if table.emulated else "the device's clock is too coarse"
        case.result = _result(Skipped, f"times are not measured: {why}", "unmeasured")
    elif row.median is not None:
        # The library would write 8e-05, which is no xs:decimal.
        case._elem.set("time", f"{row.median.value / 1e3:.9f}")  # noqa: SLF001
    shown = [f"{column.title}: {column.text(row)}" for column in columns.of(table)]
    case.system_out = sanitize("\n".join([*shown, *row.notes]))
    return case


def _check(run: Run, check: Check) -> TestCase:
    """A gate's test: it fails for a regression; what was not measured is an error, and what was not decided is skipped, never passed."""
    # A server's history of a test must outlive the next upgrade: the versions are in the sentence.
    name = re.sub(r" onnxruntime=\S+", "", check.case) if run.baseline and run.baseline.kind == "runtime" else check.case
    case = TestCase(_line(f"{name}.{check.metric}"), f"{run.study.name}.{check.device}", 0)
    said = gate.sentence(run, check)
    if check.verdict == "regressed":
        case.result = _result(Failure, said, check.metric)
    elif check.verdict == "unmeasured":
        case.result = _result(Error, said, "unmeasured")
    elif check.verdict != "passed":
        case.result = _result(Skipped, said, check.verdict)
    if check.metric == METRIC and check.candidate is not None:
        case._elem.set("time", f"{check.candidate / 1e3:.9f}")  # noqa: SLF001 - as below
    case.system_out = sanitize(said)
    return case


def _result(kind: type[Error | Failure | Skipped], reason: str, state: str) -> Error | Failure | Skipped:
    """An outcome with its reason as attribute, which servers list, and as text, which keeps its lines."""
    result = kind(_line(reason), state)
    result.text = sanitize(reason)
    return result


def _line(words: str) -> str:
    """A text for an attribute: on one line, and legal in XML 1.0."""
    return sanitize(" ".join(words.split()))
