"""Everything that can be said of a run. Reports render it and decide nothing themselves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from harness.errors import SelectionError
from harness.judge import claims, outcome
from harness.judge.agreement import disagreements
from harness.judge.table import table
from harness.measure.pairs import BASELINE
from harness.study.toml_file import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.errors import Exit
    from harness.judge.check import Check
    from harness.judge.claims import ClaimVerdict
    from harness.judge.outcome import Outcome
    from harness.judge.table import Table
    from harness.records.run import Run
    from harness.records.samples import LaunchKey
    from harness.study.claims_and_gate import ClaimSection


@dataclass(frozen=True)
class Judgement:
    """What the numbers of a run support.

    Attributes:
        run: with its outcomes.
        tables: one for each device: its rows, pairs, checks, drifts and shortfall.
        claims: the verdicts on the study's claims.
        disagreements: a sentence for each case of which two devices compute something else.
        outcome: what became of the run as a whole; of a gate its verdict.
    """

    run: Run
    tables: tuple[Table, ...]
    claims: tuple[ClaimVerdict, ...]
    disagreements: tuple[str, ...]
    outcome: Outcome

    @property
    def is_gate(self) -> bool:
        """Whether the run compares a candidate with a baseline."""
        return self.run.baseline is not None

    @property
    def exit(self) -> Exit:
        """The exit code of the outcome."""
        return outcome.EXITS[self.outcome]

    @property
    def checks(self) -> tuple[Check, ...]:
        """A gate's checks on all devices."""
        return tuple(check for each in self.tables for check in each.checks)

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the devices that failed."""
        return tuple(each.device.entry.name for each in self.tables if each.device.state == "failed")

    @property
    def unfinished(self) -> tuple[str, ...]:
        """The names of the devices whose part of the run has not ended, or was interrupted."""
        return tuple(each.device.entry.name for each in self.tables if each.device.state in {"pending", "stopped"})

    def with_tables(self, tables: Sequence[Table]) -> Judgement:
        """The same with other tables."""
        found = tuple(tables)
        return replace(self, tables=found, disagreements=disagreements(self.run, found), outcome=outcome.outcome(self.run, found))

    def with_claims(self, sections: Sequence[ClaimSection]) -> Judgement:
        """Judge other claims on the same run."""
        study = self.run.study.model_copy(update={"claim": list(sections)})
        run = self.run.model_copy(update={"study": study})
        return replace(self, run=run, claims=claims.judge(run))

    def select(self, devices: Sequence[str], globs: Sequence[str]) -> Judgement:
        """Keep the tables of some devices and the rows of some variants.

        Args:
            devices: names and ``@tags``; none keeps all.
            globs: of variants; none keeps all.

        Raises:
            SelectionError: if a selector matches nothing.
        """
        for selector in devices:
            if not any(_selected(each, selector) for each in self.tables):
                known = [each.device.entry.name for each in self.tables]
                message = f"no device '{selector}' in this run; {nearest(selector, known)}"
                raise SelectionError(message)
        for glob in globs:
            names = list(dict.fromkeys(row.variant for each in self.tables for row in each.rows))
            if not any(fnmatchcase(name, glob) for name in names):
                message = f"no variant matches '{glob}' in this run; {nearest(glob, names)}"
                raise SelectionError(message)
        kept = [each for each in self.tables if not devices or any(_selected(each, selector) for selector in devices)]
        return self.with_tables([_with_variants(each, globs) for each in kept] if globs else kept)


def judge(run: Run, quantiles: Mapping[LaunchKey, tuple[float, ...]]) -> Judgement:
    """Judge a run.

    Args:
        run: with its outcomes.
        quantiles: p90 and p99 of each launch, in nanoseconds.
    """
    found = tuple(table(run, device, quantiles) for device in run.devices)
    return Judgement(run, found, claims.judge(run), disagreements(run, found), outcome.outcome(run, found))


def _with_variants(table: Table, globs: Sequence[str]) -> Table:
    """Keep the rows and checks of some variants, with those of their baselines."""

    def wanted(variant: str) -> bool:
        return any(fnmatchcase(variant.removeprefix(BASELINE), glob) for glob in globs)

    rows = tuple(row for row in table.rows if wanted(row.variant))
    shown = {row.case for row in rows}
    return replace(table, rows=rows, checks=tuple(check for check in table.checks if check.case in shown))


def _selected(table: Table, selector: str) -> bool:
    entry = table.device.entry
    return selector[1:] in entry.tags if selector.startswith("@") else selector == entry.name
