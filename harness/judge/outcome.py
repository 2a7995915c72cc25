"""What became of a run as a whole: one word that the tables, the page, JSON and the exit code share."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from harness.errors import Exit
from harness.judge import gate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.judge.table import Table
    from harness.records.run import Run


class Outcome(StrEnum):
    """What became of a run.

    Attributes:
        RUNNING: it has not ended, or was killed.
        COMPLETE: everything was measured as the study asks.
        PASSED: a gate's checks all passed.
        REGRESSED: a gate found a confirmed regression.
        OUT_OF_TIME: a device's time was up before everything was known as closely as asked.
        INCONCLUSIVE: a gate could not decide within the time allowed.
        INCOMPLETE: a device, a case or a variant failed.
        BUSY: every device that failed is held by another job.
        INTERRUPTED: a signal ended it.
    """

    RUNNING = "running"
    COMPLETE = "complete"
    PASSED = "passed"
    REGRESSED = "regressed"
    OUT_OF_TIME = "out of time"
    INCONCLUSIVE = "inconclusive"
    INCOMPLETE = "incomplete"
    BUSY = "busy"
    INTERRUPTED = "interrupted"


EXITS = {
    Outcome.COMPLETE: Exit.PASSED,
    Outcome.PASSED: Exit.PASSED,
    Outcome.REGRESSED: Exit.REGRESSED,
    Outcome.OUT_OF_TIME: Exit.INCONCLUSIVE,
    Outcome.INCONCLUSIVE: Exit.INCONCLUSIVE,
    Outcome.INCOMPLETE: Exit.INCOMPLETE,
    Outcome.RUNNING: Exit.INCOMPLETE,
    Outcome.BUSY: Exit.BUSY,
    Outcome.INTERRUPTED: Exit.INTERRUPTED,
}


def outcome(run: Run, tables: Sequence[Table]) -> Outcome:
    """Say what became of a run; a gate's outcome is its verdict.

    Args:
        run: with its outcomes.
        tables: of all its devices.
    """
    if run.state != "complete":
        return Outcome(run.state)
    return _of_run(run) if run.baseline is None else _of_gate(run, tables)


def _of_run(run: Run) -> Outcome:
    """What became of a run's measurements."""
    failed = [device for device in run.devices if device.state == "failed"]
    lost = any(record.state == "failed" for record in run.results)
    if failed and all(device.step == "lease" for device in failed) and not lost:
        return Outcome.BUSY
    if failed or lost or any(variant.state == "failed" for variant in run.variants):
        return Outcome.INCOMPLETE
    is_late = any(device.ended == "max_time" for device in run.devices)
    if is_late or any(record.state == "unmeasured" for record in run.results):
        return Outcome.OUT_OF_TIME
    return Outcome.COMPLETE


def _of_gate(run: Run, tables: Sequence[Table]) -> Outcome:
    """A gate's verdict: a device that failed is never a regression, and what was not measured is never a pass."""
    found = [check for table in tables for check in table.checks]
    verdicts = {check.verdict for check in found}
    if "regressed" in verdicts:
        return Outcome.REGRESSED
    failed = [device for device in run.devices if device.state != "measured"]
    if failed and all(device.step == "lease" for device in failed):
        return Outcome.BUSY
    blind = any(gate.is_blind(table.checks) for table in tables)
    unmade = any(each.state == "failed" for each in run.variants)
    if failed or blind or unmade or not found or "unmeasured" in verdicts:
        return Outcome.INCOMPLETE
    return Outcome.INCONCLUSIVE if verdicts & {"open", "apparent"} else Outcome.PASSED
