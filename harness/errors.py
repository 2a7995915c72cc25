"""The error tree, and the exit codes that it ends in.

::

    HarnessError                  an error that is shown as one message, without a traceback
    ├── UsageError                exit 2: the request, a file or a setting is wrong
    │   ├── StudyError            study.toml: syntax, unknown key, wrong value
    │   ├── RegistryError         devices.toml: the same, or a device that is not in it
    │   ├── ModelError            the model file: missing, not ONNX, truncated, quantized already, open dimensions
    │   ├── DataError             calibration or evaluation data that don't fit the model
    │   ├── SelectionError        there is no device or variant of this name
    │   └── ResultsError          a results folder that can't be written, found or read
    └── DeviceError               exit 3: a device or the connection to it failed; never reported as a slower model
        ├── EntryError            exit 2: the device's entry in devices.toml or ssh_config is wrong
        ├── ConnectError          no answer, refused, name unknown
        ├── HostKeyError          the host key is unknown, or not the expected one
        │   ├── UnknownHostKeyError   no key is known
        │   └── HostKeyMismatchError  it differs from the expected one
        ├── AuthenticationError   the device refused the user or the key
        ├── TransferError         a file arrived damaged, or its folder is not writable
        ├── RunnerError           the runner did not start, died, or violated the protocol
        │   ├── LostError         the connection broke in the middle of a step; reconnecting may help
        │   └── DiedError         the job ended without a last message: killed, or the device was restarted
        ├── UnforeseenError       an unexpected exception that concerns one device only
        └── BusyError             exit 75: the device is busy with another job

``Exit`` is the only list of exit codes; commands return a member of it. ``Failure`` is what run.json keeps of a ``DeviceError``'s class.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import ClassVar

from harness.text import sanitize


class Exit(IntEnum):
    """What a command's exit code says."""

    PASSED = 0
    REGRESSED = 1
    USAGE = 2
    INCOMPLETE = 3
    INCONCLUSIVE = 4
    CRASHED = 70
    BUSY = 75
    INTERRUPTED = 130


class Failure(StrEnum):
    """What kind of failure ended the work on a device, as the journal and run.json keep it."""

    ENTRY = "entry"
    CONNECT = "connect"
    HOST_KEY = "host key"
    AUTHENTICATION = "authentication"
    TRANSFER = "transfer"
    RUNNER = "runner"
    LOST = "lost"
    DIED = "died"
    BUSY = "busy"
    UNFORESEEN = "unforeseen"
    OTHER = "other"


class HarnessError(Exception):
    """The base class of every error that is shown to the user as one message."""

    exit: ClassVar[Exit] = Exit.USAGE


class UsageError(HarnessError):
    """The request, a file or a setting is wrong; nothing was measured."""


class StudyError(UsageError):
    """The study file can't be read, or has an unknown key or a wrong value."""


class RegistryError(UsageError):
    """The device registry can't be read, or lacks the device."""


class ModelError(UsageError):
    """The model file can't be used."""


class DataError(UsageError):
    """Calibration or evaluation data do not fit the model."""


class SelectionError(UsageError):
    """A selector matches no device or no variant."""


class ResultsError(UsageError):
    """A results folder can't be written, found or read."""


class DeviceError(HarnessError):
    """A device failed at a step.

    Args:
        device: the device's name in the registry.
        step: the step that failed: connect, push, start, measure or collect.
        reason: what went wrong, and the next step where there is one.

    Attributes:
        jump_host: HOST:PORT of the jump host at which it went wrong; None if it was the device itself.
    """

    exit: ClassVar[Exit] = Exit.INCOMPLETE
    failure: ClassVar[Failure] = Failure.OTHER
    jump_host: str | None = None

    def __init__(self, device: str, step: str, reason: str) -> None:
        # Much of it is in the device's own words.
        reason = sanitize(reason)
        super().__init__(f"{device}: {step}: {reason}")
        self.device = device
        self.step = step
        self.reason = reason


class EntryError(DeviceError):
    """The device's entry in devices.toml or ssh_config is wrong; no connection was tried."""

    exit: ClassVar[Exit] = Exit.USAGE
    failure: ClassVar[Failure] = Failure.ENTRY


class ConnectError(DeviceError):
    """The device can't be reached."""

    failure: ClassVar[Failure] = Failure.CONNECT


class HostKeyError(DeviceError):
    """The device's host key is unknown, or not the expected one."""

    failure: ClassVar[Failure] = Failure.HOST_KEY


class UnknownHostKeyError(HostKeyError):
    """The device showed a host key, and none is known."""


class HostKeyMismatchError(HostKeyError):
    """The device's host key differs from the known one."""


class AuthenticationError(DeviceError):
    """The device refused the login, or what devices.toml names to log in with is not there.

    Args:
        device: as in :class:`DeviceError`; step and reason likewise.
        key: the key of devices.toml that names it.
    """

    failure: ClassVar[Failure] = Failure.AUTHENTICATION

    def __init__(self, device: str, step: str, reason: str, *, key: str = "password_env") -> None:
        super().__init__(device, step, reason)
        self.key = key


class TransferError(DeviceError):
    """A file arrived damaged."""

    failure: ClassVar[Failure] = Failure.TRANSFER


class RunnerError(DeviceError):
    """The runner failed on the device."""

    failure: ClassVar[Failure] = Failure.RUNNER


class LostError(RunnerError):
    """The connection broke in the middle of a step; what the device does goes on."""

    failure: ClassVar[Failure] = Failure.LOST


class DiedError(RunnerError):
    """The job on the device ended without a last message."""

    failure: ClassVar[Failure] = Failure.DIED


class UnforeseenError(DeviceError):
    """An unexpected exception that concerns one device only."""

    failure: ClassVar[Failure] = Failure.UNFORESEEN


class BusyError(DeviceError):
    """Another job holds the device."""

    exit: ClassVar[Exit] = Exit.BUSY
    failure: ClassVar[Failure] = Failure.BUSY
