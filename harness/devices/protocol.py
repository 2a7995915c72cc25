"""The version of the protocol between controller and device (runners/PROTOCOL.md), and the check that both speak the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import harness
from harness import paths
from harness.errors import RunnerError

if TYPE_CHECKING:
    from collections.abc import Mapping

PROTOCOL = int((paths.RUNNERS / "shared" / "version.py").read_text(encoding="utf-8").rpartition("=")[2])


def described(said: Mapping[str, object]) -> str:
    """Describe the version that a job or a holder speaks.

    Args:
        said: with ``protocol`` and ``harness``, if it tells them: versions before protocol 4 did not.
    """
    number, name = said.get("protocol"), said.get("harness")
    if not isinstance(number, int):
        return "an earlier protocol"
    return f"protocol {number}{f' (quant-harness {name})' if isinstance(name, str) and name else ''}"


def check_job(said: Mapping[str, object], device: str, step: str, job: str) -> None:
    """Refuse to read a job that speaks another version: the same words may mean something else there.

    Args:
        said: what the device tells of the job, with ``protocol`` and ``harness``.
        device: its name.
        step: what was being done.
        job: its name on the device.

    Raises:
        RunnerError: with the next step.
    """
    if said.get("protocol") == PROTOCOL:
        return
    message = (
        f"the job {job} of this run speaks {described(said)}, and this harness speaks {PROTOCOL} (quant-harness {harness.__version__}): "
        f"finish the run with the version that began it, or end the job (harness device release {device}) and start a new run"
    )
    raise RunnerError(device, step, message)
