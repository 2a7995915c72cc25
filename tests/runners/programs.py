"""The programs of runners/ as a test starts them."""

from __future__ import annotations

import sys

from harness.paths import RUNNERS

FOLDERS = [str(RUNNERS / "agent"), str(RUNNERS / "shared")]
AGENT = f"import runpy, sys; sys.path[:0] = {FOLDERS}; runpy.run_path({FOLDERS[0] + '/agent.py'!r}, run_name='__main__')"


def agent(*words: str) -> list[str]:
    """The command that runs the agent as it stands in runners/."""
    return [sys.executable, "-c", AGENT, *words]
