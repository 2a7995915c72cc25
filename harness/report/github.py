"""Annotations for GitHub Actions: workflow commands on stdout.

There is one for each check of a gate that did not pass, each device that failed, and each variant whose outputs broke. The summary of a
job is the Markdown format; this one is what its page lists as errors and warnings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report import claims, gate
from harness.text import sanitize

if TYPE_CHECKING:
    from harness.judge.judgement import Judgement
    from harness.judge.row import Row

LEVELS = {"regressed": "error", "unmeasured": "warning", "apparent": "warning", "open": "warning", "skipped": "notice"}


def render(judgement: Judgement) -> bytes:
    """Write the commands."""
    run, tables = judgement.run, judgement.tables
    lines = [_command("warning", f"{table.device.entry.name} failed", table.trouble) for table in tables if table.device.state == "failed" and table.trouble]  # fmt: skip
    for table in tables:
        for check in gate.ranked(table.checks):
            told = check.verdict == "passed" and check.metric == "outputs" and check.reason
            if level := "notice" if told else LEVELS.get(check.verdict):
                title = f"{check.case} on {check.device}: {check.metric} {gate.WORDS.get(check.verdict, check.verdict)}"
                lines.append(_command(level, title, gate.sentence(run, check)))
    lines += [
        _command("warning", f"{table.device.entry.name}: less precise than required", table.shortfall.sentence)
        for table in tables
        if table.shortfall and table.shortfall.seconds
    ]
    if not judgement.is_gate:
        lines += [_broken(row) for table in tables for row in table.rows if row.fidelity.broken]
    for found in judgement.claims:
        if found.verdict == "refuted":
            lines += [
                _command("warning", f"refuted: {found.claim.text}", claims.sentence(found.claim, device))
                for device in found.devices
                if device.verdict == "refuted"
            ]
    rows = [row for table in tables for row in table.rows]
    measured = sum(row.state == "measured" for row in rows)
    whole = (
        gate.verdict(judgement)
        if judgement.is_gate
        else f"{judgement.outcome}: {measured} of {len(rows)} cases and variants measured"
    )
    lines.append(_command("notice", run.study.name, whole))
    return "".join(f"{line}\n" for line in lines).encode()


def _broken(row: Row) -> str:
    """A warning of a variant whose outputs have dead parts, or values that are not finite."""
    words = "; ".join(row.fidelity.notes_against(row.reference or "fp32"))
    return _command("warning", f"{row.case} on {row.device}: outputs are {row.fidelity.broken}", words)


def _command(level: str, title: str, message: str) -> str:
    """One command; what a device said can't begin another (docs.github.com, workflow commands)."""
    name = _escaped(title).replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={name}::{_escaped(message)}"


def _escaped(words: str) -> str:
    return sanitize(words).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
