"""What the tests of the formats share."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from harness.judge.rows import Row, Table
from harness.records.run import Run
from tests.report import runs


class Summary(NamedTuple):
    """A run and its tables."""

    run: Run
    tables: tuple[Table, ...]

    def row(self, device: str, variant: str) -> Row:
        """Find a row."""
        table = next(table for table in self.tables if table.device.entry.name == device)
        return next(row for row in table.rows if row.variant == variant)


@pytest.fixture
def hostile() -> Summary:
    """A measured and a failed device, cases and variants in every state, hostile words everywhere."""
    return Summary(*runs.hostile())


@pytest.fixture
def simple() -> Summary:
    """One device, two cases, five rounds."""
    return Summary(*runs.simple())


@pytest.fixture
def emulated() -> Summary:
    """The same on an emulated device."""
    return Summary(*runs.simple(emulated=True))
