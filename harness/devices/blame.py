"""Turn every exception that concerns one device into a :class:`~harness.errors.DeviceError` that names the device."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from harness import crash
from harness.errors import DeviceError, EntryError, ResultsError, UnforeseenError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def blamed(device: str, step: str | Callable[[], str], *passing: type[Exception]) -> Iterator[None]:
    """Attribute every exception of the block to one device.

    Args:
        device: its name.
        step: what is done, for messages; a function is asked when something goes wrong.
        passing: exceptions that are no faults.

    Raises:
        DeviceError: for every exception: errors of its branch as they are, a :class:`UsageError` as an :class:`EntryError`, and any other
            as an :class:`UnforeseenError` with its class, its text and the path of a crash report.
        ResultsError: as it is: a disk of this machine that takes nothing concerns all devices.
        KeyboardInterrupt: as it is; GeneratorExit too.
    """
    through: tuple[type[BaseException], ...] = (DeviceError, ResultsError, KeyboardInterrupt, GeneratorExit, *passing)
    try:
        yield
    except through:
        raise
    except UsageError as exc:
        raise EntryError(device, step if isinstance(step, str) else step(), str(exc)) from exc
    # Also what is no Exception: a library's sys.exit(), or a panic of one that is written in Rust.
    except BaseException as exc:
        raise UnforeseenError(device, step if isinstance(step, str) else step(), unforeseen(exc)) from exc


@contextlib.contextmanager
def harmless() -> Iterator[None]:
    """Ignore every exception of the block, which only closes what is no longer used.

    Raises:
        KeyboardInterrupt: as it is; GeneratorExit too.
    """
    try:
        yield
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException:  # noqa: BLE001 - as in blamed
        return


def unforeseen(exc: BaseException) -> str:
    """Describe an unexpected exception: its class, its text, and the path of its crash report."""
    report = crash.report(exc)
    return f"an unexpected error: {crash.described(exc)}" + (f"; please report it with {report}" if report else "")
