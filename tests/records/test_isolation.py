"""Data of one device that can't be made sense of cost that device's column; the others are put together, judged and shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ResultsError
from harness.judge import judgement
from harness.records import samples
from harness.report import csv_file
from tests.cli.conftest import Command, harness, study

__all__ = ["harness", "study"]
TWO = '[other]\ntransport = "local"\n'


def fail_for(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: Exception, device: Any) -> None:
    """Let a function raise if an argument is of a device."""
    real = getattr(owner, name)

    def act(*args: Any) -> Any:
        if device(args):
            raise error
        return real(*args)

    monkeypatch.setattr(owner, name, act)


@pytest.mark.faults
@pytest.mark.parametrize("where", ["samples", "judge", "format"])
def test_a_device_whose_data_can_not_be_read(harness: Command, study: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    Path("devices.toml").write_text(TWO)
    if where == "samples":
        fail_for(monkeypatch, samples.Blocks, "add", OverflowError("int too large"), lambda args: args[1].device == "other")
    if where == "judge":
        of_other = lambda args: args[1].entry.name == "other" and args[1].state != "failed"  # noqa: E731
        fail_for(monkeypatch, judgement, "table", ZeroDivisionError("float division by zero"), of_other)
    if where == "format":
        has_other = lambda args: any(row.device == "other" and row.median for table in args[0].tables for row in table.rows)  # noqa: E731
        fail_for(monkeypatch, csv_file, "render", ValueError("NaN is no JSON"), has_other)
    words = ["run", str(study), "--variant", "fp32", "--rounds", "1", "--device", "local", "--device", "other", "--json"]
    done = harness(*words)
    assert done.code == 3, done.err
    local, other = done.json["devices"]
    assert local["state"] == "measured"
    assert other["state"] == "failed"
    assert other["trouble"].startswith("judge: the data from this device can't be evaluated: an unexpected error: ")
    (folder,) = Path("results").glob("*/*")
    assert (folder / "report" / "index.html").exists()
    rows = {row["device"]: row["state"] for row in json.loads((folder / "run.json").read_text())["results"]}
    assert rows == {"local": "measured", "other": "unmeasured"}


@pytest.mark.faults
def test_what_is_no_device_s_fault_is_raised(harness: Command, study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_for(monkeypatch, judgement, "table", ResultsError("the disk is full"), lambda _: True)
    done = harness("run", str(study), "--variant", "fp32", "--rounds", "1")
    assert (done.code, done.err.splitlines()[-1]) == (2, "harness: the disk is full")
