"""Render a gate's checks: a row of a table, a sentence for each check that did not pass, and the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report.numbers import UNKNOWN, number, size
from harness.text import percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.judge.check import Check
    from harness.judge.intervals import Estimate
    from harness.judge.judgement import Judgement
    from harness.judge.table import Table
    from harness.records.run import Run

TITLES = ("variant", "metric", "baseline", "candidate", "change", "allowed", "verdict", "processes")
UNITS = {"latency.median": "ms", "latency.p90": "ms", "latency.p99": "ms", "load": "ms", "instructions": "M"}
SHARES = ("accuracy", "top1_agreement")
WORDS = {"unmeasured": "not measured", "skipped": "not judged", "apparent": "not confirmed", "open": "open"}
STYLES = {"passed": "good", "regressed": "bad", "skipped": "dim"}
ORDER = ("regressed", "apparent", "open", "unmeasured", "skipped", "passed")


def cells(check: Check) -> list[str]:
    """A check as a line of the table."""
    return [
        check.case,
        check.metric,
        value(check, check.baseline),
        value(check, check.candidate),
        change(check),
        allowed(check),
        WORDS.get(check.verdict, check.verdict),
        str(check.processes) if check.processes else "",
    ]


def value(check: Check, found: float | None) -> str:
    """A value in its metric's unit."""
    if found is None:
        return UNKNOWN
    if check.metric in SHARES:
        return f"{100 * found:.2f} %"
    if check.metric == "sqnr":
        return f"{found:.1f} dB"
    if check.metric == "outputs":
        return f"{found:.0f} fault{'' if found == 1 else 's'}" if found else "sound"
    if check.metric in {"memory", "size"}:
        return size(round(found * 1e6))
    return f"{number(found)} {UNITS[check.metric]}"


def change(check: Check) -> str:
    """The change with its interval. For a confirmed regression, it is that of the second set of launches, which was not selected by its size."""
    found = check.confirmed or check.change
    if found is None:
        return UNKNOWN
    if check.metric in SHARES:
        return f"{-100 * found.value:+.2f} points" if found.value else "0.00 points"
    if check.metric == "sqnr":
        return f"{-found.value:+.1f} dB" if found.value else "0.0 dB"
    return interval(found)


def interval(found: Estimate) -> str:
    """A ratio as a change in per cent, with its interval."""
    text = f"{_percent(found.value)} %"
    if found.low is None or found.high is None:
        return f"{text} [?]"
    return text if found.low == found.high else f"{text} [{_percent(found.low)}, {_percent(found.high)}]"


def _percent(ratio: float) -> str:
    share = 100 * (ratio - 1)
    # A tenth of a per cent is as fine as anyone can use; no minus before a zero.
    text = f"{share:+.1f}"
    return "0.0" if text in {"-0.0", "+0.0"} else text


def allowed(check: Check) -> str:
    """The limit."""
    if check.metric == "outputs":
        return "no new fault"
    if check.metric == "sqnr":
        return f"{-check.limit:g} dB"
    return f"{-100 * check.limit:.3g} points" if check.metric in SHARES else f"+{100 * check.limit:.3g} %"


def sentence(run: Run, check: Check) -> str:
    """Describe the result of a check, with the ratio, its interval, the limit and the baseline."""
    against = run.baseline.described if run.baseline else "the baseline"
    where = f"{check.case} on {check.device}: {check.metric}"
    if check.metric == "outputs" and check.verdict in {"passed", "regressed"}:
        return _of_outputs(check, where, against)
    if check.change is None:
        return f"{where} {WORDS[check.verdict]}: {check.reason}"
    figures = f"{value(check, check.baseline)} → {value(check, check.candidate)}, {change(check)}"
    if check.verdict == "regressed":
        sure = ""
        if check.confirmed and check.change:
            own = f"{check.confirmed.processes or check.confirmed.n} launches"
            sure = f"; the change is from a second set of {own}, which confirms the first ({_percent(check.change.value)} %)"
        return f"{where} got worse: {figures}, where {allowed(check)} is allowed, against {against}{sure}"
    said = {"passed": "passed", "open": "is not decided", "apparent": "is not decided"}[check.verdict]
    reason = f": {check.reason}" if check.reason else ""
    return f"{where} {said}: {figures}, where {allowed(check)} is allowed, against {against}{reason}"


def _of_outputs(check: Check, where: str, against: str) -> str:
    """Name the faults that are new, and those that both sides have."""
    reason = f"; {check.reason}" if check.reason else ""
    if check.verdict == "regressed":
        which = "this fault" if len(check.faults) == 1 else "these faults"
        return f"{where} got worse: {'; '.join(check.faults)}; {against} does not have {which}{reason}"
    return f"{where} passed: no fault that {against} does not have{reason}"


def notes(run: Run, table: Table) -> list[str]:
    """What a reader must know beside a device's checks."""
    lines = [sentence(run, check) for check in ranked(table.checks) if check.verdict != "passed" or check.reason]
    then = f"since {run.baseline.taken:%Y-%m-%d %H:%M} UTC" if run.baseline and run.baseline.taken else "since then"
    for drift in table.drifts.cases:
        moved = f"{number(drift.then.value)} → {number(drift.now.value)} ms, {interval(drift.change)}"
        lines.append(
            f"the baseline itself {then}: {drift.case}: {moved} (measured at two different times; the gate does not use this)"
        )
    lines += [f"the baseline's device {then}: {difference}" for difference in table.drifts.differences]
    if table.drifts.noise is not None and table.drifts.is_noisier:
        before, now = map(percent, table.drifts.noise)
        device = table.device.entry.name
        lines.append(
            f"the device is noisier than when the baseline was saved: the replicates of a pair differ by ±{now} (then ±{before}); "
            f"so the gate takes longer or stays open. To see what disturbs the device: harness devices --noise --device {device}"
        )
    # What a reader must know of the outputs, such as that they are NaN.
    lines += [f"{row.case}: {note}" for row in table.rows for note in row.notes if row.state == "measured"]
    return list(dict.fromkeys(lines))


def ranked(checks: Sequence[Check]) -> list[Check]:
    """The worst first."""
    return sorted(checks, key=lambda check: ORDER.index(check.verdict))


def verdict(judgement: Judgement) -> str:
    """The verdict in one sentence; only measured checks count as passed."""
    run = judgement.run
    counts = {name: sum(check.verdict == name for check in judgement.checks) for name in ORDER}
    against = run.baseline.described if run.baseline else "the baseline"
    parts = [f"{counts[name]} {WORDS.get(name, name)}" for name in ORDER if counts[name]]
    tail = f"{', '.join(parts) or 'nothing was judged'}; against {against}"
    if judgement.failed:
        tail += f"; without {', '.join(judgement.failed)}, which failed"
    if judgement.unfinished:
        tail += f"; not finished on {', '.join(judgement.unfinished)}"
    return f"{judgement.outcome.upper()}: {tail}"
