"""The command itself: how signals end it."""

from __future__ import annotations

import signal
import time

import pytest

from harness.cli import app


def test_signals_that_come_together_interrupt_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    interrupt = app.interrupts()
    with pytest.raises(KeyboardInterrupt):
        interrupt(signal.SIGTERM, None)
    now += app.TOGETHER_SECONDS / 2
    interrupt(signal.SIGTERM, None)
    now += app.TOGETHER_SECONDS
    with pytest.raises(KeyboardInterrupt):
        interrupt(signal.SIGINT, None)
