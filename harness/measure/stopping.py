"""Asks the job on a device to stop: over the connection that is open, or else over a new one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.devices.link import Link
from harness.errors import DeviceError

if TYPE_CHECKING:
    from harness.devices.device import Device


def stop(link: Link | None, device: Device, job: str, seconds: float) -> str | None:
    """Ask a job to stop, and wait until it has.

    Args:
        link: the connection that is open; closed if the job can't be stopped over it, so that nobody waits for it any longer.
        device: where the job runs.
        job: its name.
        seconds: how long it measures on by itself.

    Returns:
        None once it has stopped; else what was left behind, why, and the next step.
    """
    if link is not None:
        try:
            link.stop(job)
        except DeviceError:
            link.close()
        else:
            return None
    try:
        fresh = Link(device)
        try:
            fresh.stop(job)
        finally:
            fresh.close()
    except DeviceError as exc:
        return (
            f"job {job} could not be stopped ({exc.reason}): it continues to measure for up to {seconds:g} s, and the device is busy "
            f"until then; to end it earlier: harness device release {device.name}"
        )
    return None
