"""Boards that say something else than their agent does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.devices.transport_registry import TRANSPORTS
from tests.cli.conftest import harness, study
from tests.devices import hostile

__all__ = ["harness", "study"]


@pytest.fixture
def twisted(monkeypatch: pytest.MonkeyPatch) -> Callable[[hostile.Twist], None]:
    """Let ``local`` be a board whose agent's lines are twisted."""

    def twist(how: hostile.Twist) -> None:
        class Twisted(hostile.Board):
            twist = staticmethod(how)

        monkeypatch.setattr(hostile, "Twisted", Twisted, raising=False)
        monkeypatch.setitem(TRANSPORTS, "local", "tests.devices.hostile:Twisted")

    return twist
