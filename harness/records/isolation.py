"""Show a run even if the data of one device can't be read: that device has failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from harness.devices.blame import unforeseen
from harness.errors import Failure, HarnessError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from harness.records.run import Run

Result = TypeVar("Result")
STEP = "judge"


def isolated(run: Run, act: Callable[[Run], Result]) -> tuple[Run, Result]:
    """Do something with a run, such as to judge it; if that fails, without the data of the devices for which alone it fails too.

    Returns:
        The run, in which these devices have failed, and what was found.

    Raises:
        Exception: what was raised, if it is no single device's fault.
    """
    try:
        return run, act(run)
    except HarnessError:
        raise
    except Exception:
        names = [record.entry.name for record in run.devices]
        faults = culprits(names, lambda name: act(only(run, name)))
        if not faults:
            raise
    rest = without(run, faults)
    return rest, act(rest)


def culprits(names: Iterable[str], act: Callable[[str], object]) -> dict[str, str]:
    """Try devices one by one; returns the error of each device that fails, by name."""
    found: dict[str, str] = {}
    for name in names:
        try:
            act(name)
        except HarnessError:
            raise
        except Exception as exc:  # noqa: BLE001 - whatever it is, the others are to be shown
            found[name] = f"the data from this device can't be evaluated: {unforeseen(exc)}"
    return found


def only(run: Run, name: str) -> Run:
    """A run as if it had been one device's alone."""
    return run.model_copy(
        update={
            "devices": tuple(record for record in run.devices if record.entry.name == name),
            "results": tuple(result for result in run.results if result.device == name),
            "launches": tuple(launch for launch in run.launches if launch.device == name),
        }
    )


def without(run: Run, faults: Mapping[str, str]) -> Run:
    """A run in which devices have failed, for these reasons, and nothing of theirs is measured."""
    failed = {
        name: {"state": "failed", "failure": Failure.UNFORESEEN, "step": STEP, "reason": reason}
        for name, reason in faults.items()
    }
    unmeasured = {
        name: {"state": "unmeasured", "reason": f"the device failed: {STEP}: {reason}"} for name, reason in faults.items()
    }
    kept = {"device", "case", "state", "reason"}
    return run.model_copy(
        update={
            # The governor, rounds and the like stay as they were: they are not what could not be read.
            "devices": tuple(record.model_copy(update=failed.get(record.entry.name, {})) for record in run.devices),
            "results": tuple(
                type(result)(**{**result.model_dump(include=kept), **unmeasured[result.device]})
                if result.device in faults
                else result
                for result in run.results
            ),
            "launches": tuple(launch for launch in run.launches if launch.device not in faults),
        }
    )
