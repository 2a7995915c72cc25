"""The outcome of a whole run: one word that the tables, the page, JSON and the exit code share."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from harness.errors import Exit, Failure
from harness.judge import gate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.judge.check import Check
    from harness.judge.table import Table
    from harness.records.run import DeviceRecord, Run


class Outcome(StrEnum):
    """The outcome of a run.

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
    """Determine the outcome of a run; a gate's outcome is its verdict.

    Args:
        run: with its outcomes.
        tables: of all its devices.
    """
    if run.state != "complete":
        return Outcome(run.state)
    failed = [device for device in run.devices if device.state == "failed"]
    unmade = any(variant.state == "failed" for variant in run.variants)
    lost = any(record.state == "failed" for record in run.results)
    if run.baseline is not None:
        return _of_gate([table.checks for table in tables], run.devices, unmade=unmade)
    if is_busy(failed) and not lost:
        return Outcome.BUSY
    if failed or lost or unmade:
        return Outcome.INCOMPLETE
    is_late = any(device.ended == "max_time" for device in run.devices)
    if is_late or any(record.state == "unmeasured" for record in run.results):
        return Outcome.OUT_OF_TIME
    return Outcome.COMPLETE


def is_busy(failed: Sequence[DeviceRecord]) -> bool:
    """Whether devices failed, and all of them because they are busy with other jobs."""
    return bool(failed) and all(device.failure == Failure.BUSY for device in failed)


def _of_gate(checks: Sequence[Sequence[Check]], devices: Sequence[DeviceRecord], *, unmade: bool) -> Outcome:
    """A gate's verdict. A device that failed is never a regression, and a metric that was not measured never passes."""
    verdicts = {check.verdict for of_device in checks for check in of_device}
    if "regressed" in verdicts:
        return Outcome.REGRESSED
    unfinished = [device for device in devices if device.state != "measured"]
    if is_busy(unfinished):
        return Outcome.BUSY
    if unfinished or unmade or not verdicts or "unmeasured" in verdicts or any(map(gate.is_blind, checks)):
        return Outcome.INCOMPLETE
    return Outcome.INCONCLUSIVE if verdicts & {"open", "apparent"} else Outcome.PASSED
