"""What happens between the controller and a device: found, provided with files and a runtime, held by others, lost."""

from __future__ import annotations

from typing import Literal

from harness.devices.facts import Facts
from harness.errors import Failure
from harness.measure.event import Count, Id, Line, Message


class Connected(Line):
    """The device answered with its facts."""

    event: Literal["connected"] = "connected"
    facts: Facts


class Pushed(Line):
    """The files are on the device."""

    event: Literal["pushed"] = "pushed"
    files: Count
    sent_bytes: Count
    seconds: float


class Provisioned(Line):
    """The device had no runtime, and one was provisioned."""

    event: Literal["provisioned"] = "provisioned"
    onnxruntime: Id
    seconds: float


class Started(Line):
    """A job is about to be started; the events that follow are its own, until the next job.

    Attributes:
        job: its name there.
        inputs: the hashes of the evaluation inputs.
        protocol: the version that it speaks; versions before 4 did not write it down.
    """

    event: Literal["started"] = "started"
    job: Id
    inputs: list[Id] = []
    protocol: Count | None = None


class Lost(Line):
    """The connection to the device broke; it is made again."""

    event: Literal["lost"] = "lost"
    step: Id
    reason: Message


class Waiting(Line):
    """Another job holds the device, and this job waits in the queue; holder is what the other job says of itself, as JSON."""

    event: Literal["waiting"] = "waiting"
    holder: Message


class Collected(Line):
    """Everything was fetched from the device."""

    event: Literal["collected"] = "collected"
    job: Id


class Busy(Line):
    """Another job holds the device; holder is what the other job says of itself, as JSON."""

    event: Literal["busy"] = "busy"
    holder: Message


class LeaseLacking(Line):
    """The job holds only the lease of its store: the system does not allow its account to take the lease of the machine."""

    event: Literal["lease"] = "lease"
    reason: Message


class Runtimes(Line):
    """Several versions of onnxruntime are provisioned side by side; their hashes by version."""

    event: Literal["runtimes"] = "runtimes"
    runtimes: dict[Id, Id]


class DeviceFailed(Line):
    """The device, or the way to it, failed; journals of earlier versions do not say how."""

    event: Literal["device_failed"] = "device_failed"
    failure: Failure = Failure.OTHER
    step: Id
    reason: Message
