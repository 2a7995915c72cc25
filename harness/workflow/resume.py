"""``harness run --resume``: continue an interrupted run, from its own journal and those on the devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.devices import preflight as device_preflight
from harness.devices import protocol
from harness.errors import ResultsError, SelectionError
from harness.measure import journal
from harness.measure.progress import Progress, progress
from harness.records.folder import JOURNAL, find_run, load_run
from harness.records.run import DeviceRecord
from harness.records.variant_files import located
from harness.workflow.context import reopen
from harness.workflow.preflight import check_inputs
from harness.workflow.results import finish_run, read_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.devices.device import Device
    from harness.devices.registry import Registry
    from harness.judge.judgement import Judgement
    from harness.records.run import Run
    from harness.workflow.watcher import Watcher

REACHED = ("transport", "host", "user", "port", "identity_file", "password_env", "host_key", "jump", "python")
_NOTHING = Progress()


def resume_run(
    name: str,
    names: Sequence[str],
    registry: Registry,
    results: Path,
    watcher: Watcher,
    **limits: float | None,
) -> tuple[Path, Judgement]:
    """Continue a run: follow the jobs that are still on its devices, start the missing ones, and measure again where the time limit was reached.

    Args:
        name: the run's.
        names: of devices; none means all that have something left.
        registry: how its devices are reached now.
        results: where runs are.
        watcher: is told how it goes on.
        limits: ``wait``, how long a job queues, and ``max_time``, how long a device measures from now on, in seconds; None as the study
            says.

    Returns:
        The folder, and the judgement of the run.

    Raises:
        UsageError: a member of its branch, if there is no such run, or what it needs is not what it was.
        RunnerError: if a job that is left on a device speaks another version of the protocol.
    """
    folder = find_run(name, results, refused=True)
    begun = load_run(folder)
    # As it was before anything was measured: what was is read from the journal.
    fresh = tuple(DeviceRecord(entry=record.entry) for record in begun.devices)
    was, begun = begun, begun.model_copy(update={"devices": fresh, "state": "running", "finished": None})
    if begun.baseline is not None:
        message = (
            f"{folder}: a gate can't be resumed, because both sides must be measured in one session: run 'harness check' again"
        )
        raise ResultsError(message)
    so_far = progress(journal.read(folder / JOURNAL))
    wanted = [entry for entry in _entries(begun) if not names or entry.name in names]
    if unknown := set(names) - {entry.name for entry in wanted}:
        message = f"{folder}: the run has no device '{min(unknown)}'; it has {', '.join(entry.name for entry in _entries(begun))}"
        raise SelectionError(message)
    left = [entry for entry in wanted if so_far.get(entry.name, _NOTHING).left]
    _check_jobs(begun, {entry.name: so_far.get(entry.name, _NOTHING) for entry in left})
    if not left:
        # One that was ended while it wrote what it had measured is written now.
        is_due = was.state != "complete" and all(so_far.get(entry.name, _NOTHING).collected for entry in _entries(begun))
        return finish_run(folder, begun, interrupted=False) if is_due else read_run(str(folder), results)
    # How a device is reached may have changed since; what it is measured with may not.
    device_preflight.check([registry.entries[entry.name] for entry in left if entry.name in registry.entries])
    now = [_reached(entry, registry) for entry in left]
    if said := {key: value for key, value in limits.items() if value is not None}:
        measure = begun.study.measure.model_copy(update=said)
        begun = begun.model_copy(update={"study": begun.study.model_copy(update={"measure": measure})})
    preflight = check_inputs(begun.study)
    if preflight.model.sha256 != begun.model_sha256:
        message = f"{begun.study.model.path}: the model has changed since {folder} was started: start a new run"
        raise ResultsError(message)
    variants = located(begun.variants, folder)
    for variant in variants:
        if gone := next((file for file in variant.files().values() if not file.is_file()), None):
            message = f"{gone}: the file is missing, and {folder} needs it: restore it, or start a new run"
            raise ResultsError(message)
    with reopen(preflight, folder, begun.started, begun.seed, watcher) as context:
        hashes = tuple(found.sha256 for found in context.inputs)
        for entry in left:
            if so_far.get(entry.name, _NOTHING).inputs not in {(), hashes}:
                message = f"{begun.study.model.evaluation or begun.study.model.calibration}: the evaluation data have changed since {folder} was started: start a new run"
                raise ResultsError(message)
        so_far |= {entry.name: so_far[entry.name].again() for entry in left if entry.name in so_far}
        watcher.plan(now, begun.cases, begun.study.measure.rounds)
        interrupted = context.measure(context.work(variants, begun.cases, begun.units), now, so_far)
    return finish_run(folder, begun, interrupted=interrupted)


def _check_jobs(run: Run, left: dict[str, Progress]) -> None:
    """See that the jobs of which something is left, by device, speak the protocol of this version.

    Raises:
        RunnerError: if one does not.
    """
    for device, found in left.items():
        if found.job is not None and not found.collected:
            said = {"protocol": found.protocol, "harness": run.versions.harness}
            protocol.check_job(said, device, "resume", found.job)


def _entries(run: Run) -> list[Device]:
    return [record.entry for record in run.devices]


def _reached(entry: Device, registry: Registry) -> Device:
    """A device of the run, reached as the registry says now: a virtual board has another port after it was booted again."""
    now = registry.get(entry.name) if entry.name in registry.entries else None
    if now is not None and entry.host_key and now.host_key and entry.host_key.split()[:2] != now.host_key.split()[:2]:
        message = (
            f"{registry.path}: '{entry.name}' has another host key than when the run was started, so it is "
            f"another device, or was reinstalled: start a new run"
        )
        raise ResultsError(message)
    return registry.resolve(entry if now is None else entry.model_copy(update={key: getattr(now, key) for key in REACHED}))
