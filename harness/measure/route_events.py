"""What happens between the controller and a device: found, provided with files and a runtime, held by others, lost."""

from __future__ import annotations

from typing import Literal

from harness.devices.facts import Facts
from harness.errors import Failure
from harness.measure.event import Count, Id, Line, Message


class Connected(Line):
    """The device answered and showed its facts."""

    event: Literal["connected"] = "connected"
    facts: Facts


class Pushed(Line):
    """The files are there."""

    event: Literal["pushed"] = "pushed"
    files: Count
    sent_bytes: Count
    seconds: float


class Provisioned(Line):
    """The device had no runtime and was brought one."""

    event: Literal["provisioned"] = "provisioned"
    onnxruntime: Id
    seconds: float


class Started(Line):
    """A job is asked for; what the device writes follows, until the next one.

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
    """The way to the device broke; it is looked for again."""

    event: Literal["lost"] = "lost"
    step: Id
    reason: Message


class Waiting(Line):
    """Another job holds the device, and this one queues; holder is what that one wrote about itself, JSON."""

    event: Literal["waiting"] = "waiting"
    holder: Message


class Collected(Line):
    """All that the device has to give is here."""

    event: Literal["collected"] = "collected"
    job: Id


class Busy(Line):
    """Another job holds the device; holder is what that one wrote about itself, JSON."""

    event: Literal["busy"] = "busy"
    holder: Message


class LeaseLacking(Line):
    """The job holds its store's lease alone: the machine does not let its account take the machine's."""

    event: Literal["lease"] = "lease"
    reason: Message


class Runtimes(Line):
    """Several versions of onnxruntime are there; hashes by version."""

    event: Literal["runtimes"] = "runtimes"
    runtimes: dict[Id, Id]


class DeviceFailed(Line):
    """The device, or the way to it, failed; journals of earlier versions do not say how."""

    event: Literal["device_failed"] = "device_failed"
    failure: Failure = Failure.OTHER
    step: Id
    reason: Message
