"""What the tests of the formats share."""

from __future__ import annotations

import pytest

from harness.judge.judgement import Judgement
from tests.report import runs


@pytest.fixture
def hostile() -> Judgement:
    """A measured and a failed device, cases and variants in every state, hostile words everywhere."""
    return runs.hostile()


@pytest.fixture
def simple() -> Judgement:
    """One device, two cases, five rounds."""
    return runs.simple()


@pytest.fixture
def emulated() -> Judgement:
    """The same on an emulated device."""
    return runs.simple(emulated=True)
