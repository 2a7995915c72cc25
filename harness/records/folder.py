"""A run's folder: results/STUDY/2026-11-20T10-15-00Z-ab12/."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from harness import files
from harness.errors import Failure, ResultsError
from harness.measure import journal
from harness.records import isolation, samples
from harness.records.assemble import assemble
from harness.records.format import other_version
from harness.records.run import FORMAT, Run

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

LATEST = "latest"
RUN_FILE = "HARNESS_RUN_FILE"
RUN, JOURNAL, SAMPLES, VARIANTS = "run.json", "journal.jsonl", "samples.parquet", "variants"


def create_folder(root: Path, study: str, started: datetime) -> Path:
    """Create the folder of a new run, and write its path to the file that ``HARNESS_RUN_FILE`` names, for scripts.

    Raises:
        ResultsError: if one of them can't be made or written to.
    """
    folder = root / study / f"{started:%Y-%m-%dT%H-%M-%SZ}-{secrets.token_hex(2)}"
    try:
        (folder / VARIANTS).mkdir(parents=True)
        files.write_text(folder / JOURNAL, "", sync=True)
    except OSError as exc:
        message = f"{folder}: the results folder can't be created: {exc.strerror}; give another one: --results DIR"
        raise ResultsError(message) from exc
    if told := os.environ.get(RUN_FILE):
        try:
            files.write_text(Path(told), f"{folder.resolve()}\n", sync=True)
        except OSError as exc:
            message = f"{RUN_FILE}={told}: can't be written: {exc.strerror}; unset it, or name another file"
            raise ResultsError(message) from exc
    return folder


def save_run(folder: Path, run: Run) -> None:
    """Write run.json.

    Raises:
        ResultsError: if the disk does not take it.
    """
    try:
        files.write_text(folder / RUN, run.model_dump_json(indent=1) + "\n", sync=True)
    except OSError as exc:
        message = f"{folder / RUN}: can't be written: {exc.strerror}"
        raise ResultsError(message) from exc


def load_run(folder: Path) -> Run:
    """Read a run; one that was killed is put together from its journal.

    Raises:
        ResultsError: if it is no run's folder, damaged, or of another format.
    """
    path = folder / RUN
    try:
        content = path.read_bytes()
        run = Run.model_validate_json(content)
    except OSError as exc:
        message = f"{path}: can't be read: {exc.strerror}; is {folder} a run's folder?"
        raise ResultsError(message) from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        other = other_version(path, content, FORMAT, "read it with that version, or measure again")
        place = ".".join(str(part) for part in first["loc"])
        fault = f"{f'{place}: ' if place else ''}{first['msg']}"
        message = (
            f"{other} ({fault})"
            if other
            else f"{path}: the file is not the record of a run, or is damaged: {fault}; restore it, or start a new run"
        )
        raise ResultsError(message) from exc
    if "format" not in run.model_fields_set:
        message = f"{path}: the file does not state its format, so it is damaged: restore it, or start a new run"
        raise ResultsError(message)
    return run if run.state == "complete" and (folder / SAMPLES).exists() else gather(folder, run)


def gather(folder: Path, run: Run) -> Run:
    """Put a run together from its journal, and write its samples.

    Returns:
        The run with its outcomes; run.json is not written. A device whose events can't be made sense of has failed in it.
    """
    names = [record.entry.name for record in run.devices]
    try:
        return _gather(folder, run, names)
    except ResultsError:
        raise
    except Exception:
        faults = isolation.culprits(names, lambda name: _gather(folder, run, [name]))
        if not faults:
            raise
    return isolation.without(_gather(folder, run, [name for name in names if name not in faults]), faults)


def _gather(folder: Path, run: Run, names: Collection[str]) -> Run:
    """Put a run together from what these devices said."""
    blocks = samples.Blocks(run.cases)
    events = (event for event in journal.read(folder / JOURNAL) if event.device in names)
    whole = assemble(run, blocks.noting(events))
    blocks.write(folder / SAMPLES)
    return whole


def find_run(name: str, root: Path, *, refused: bool = False) -> Path:
    """Find a run's folder.

    Args:
        name: a folder, a unique prefix of a run's name (with or without ``STUDY/``), or ``latest``: the newest but those that found
            every device busy, if there are others.
        root: the results folder.
        refused: whether such a run too can be the latest.

    Raises:
        ResultsError: if there is none, or more than one.
    """
    if (Path(name) / RUN).is_file():
        return Path(name)
    runs = sorted(root.glob(f"*/*/{RUN}"), key=lambda path: path.parent.name)
    folders = [path.parent for path in runs]
    if name == LATEST and folders:
        return next((folder for folder in reversed(folders) if refused or not _was_refused(folder)), folders[-1])
    study, _, prefix = name.rpartition("/")
    found = [path for path in folders if prefix and path.name.startswith(prefix) and study in {"", path.parent.name}]
    if len(found) == 1:
        return found[0]
    if found:
        some = ", ".join(f"{path.parent.name}/{path.name}" for path in found[:5])
        message = f"'{name}' matches {len(found)} runs: {some}{', …' if len(found) > len(some) else ''}; give more of its name"
    elif folders:
        message = f"no run '{name}' in {root}; the latest is {folders[-1].parent.name}/{folders[-1].name}"
    else:
        message = f"no run '{name}': {root} has no runs; start one with 'harness run', or give another folder: --results DIR"
    raise ResultsError(message)


def _was_refused(folder: Path) -> bool:
    """Whether nothing was measured because all devices were busy; 'latest' skips such a run."""
    try:
        run = json.loads((folder / RUN).read_bytes())
        busy = [device["failure"] == Failure.BUSY for device in run["devices"]]
        return bool(busy) and all(busy) and not run["launches"]
    except (OSError, ValueError, TypeError, KeyError):
        return False  # whoever reads it says what is wrong
