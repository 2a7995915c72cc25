"""What tools print is dropped, and nothing else is."""

from __future__ import annotations

import logging
import sys

import onnxruntime
import pytest

from harness.quantize import quiet


def test_an_interrupt_at_its_beginning_leaves_the_streams_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(severity: int) -> None:
        if severity == quiet.FATAL:
            raise KeyboardInterrupt

    monkeypatch.setattr(onnxruntime, "set_default_logger_severity", interrupted)
    before = (sys.stdout, sys.stderr, list(logging.getLogger().handlers), list(logging.getLogger().filters))
    with pytest.raises(KeyboardInterrupt), quiet.quiet():
        pytest.fail("it did not begin")
    assert (sys.stdout, sys.stderr, list(logging.getLogger().handlers), list(logging.getLogger().filters)) == before
