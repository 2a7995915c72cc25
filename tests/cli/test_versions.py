"""Stores, jobs, runs and baselines of other versions of the harness: each is called that, and nothing of it is misread."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness import paths
from harness.devices import program

if TYPE_CHECKING:
    from tests.cli.conftest import Command

pytestmark = pytest.mark.faults  # many whole runs

RUN = ("--variant", "fp16", "--json")
NEXT = "finish the run with the version that began it, or end the job (harness device release local) and start a new run"


def store() -> Path:
    return Path(os.environ["QUANT_HARNESS_HOME"])


def trouble(done: Any) -> str:
    (device,) = done.json["devices"]
    return str(device["trouble"])


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def measured(harness: Command, study: Path) -> Path:
    """A run that is complete."""
    assert harness("run", str(study), *RUN).code == 0
    (folder,) = Path("results/tiny").iterdir()
    return folder


def cut_short(folder: Path, **started: int | None) -> None:
    """Leave a run's journal as if it had been cut short while measuring, by a version that wrote this into the line of the job."""
    path = folder / "journal.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    last = next(number for number, line in enumerate(lines) if line["event"] == "evaluated")
    (begun,) = [line for line in lines if line["event"] == "started"]
    begun.update(started)
    for key in [key for key, value in started.items() if value is None]:
        del begun[key]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines[: last + 1]))
    rewrite(folder / "run.json", lambda run: run.update(state="running"))


def test_a_store_of_a_newer_version_fails_the_device_and_says_what_to_do(harness: Command, study: Path) -> None:
    store().mkdir()
    (store() / "layout").write_text('{"layout": 7}')
    done = harness("run", str(study), *RUN)
    assert done.code == 3
    assert f"the store {store()} has layout 7, of a newer version of the harness" in trouble(done)
    assert "upgrade the harness on this machine, or name another folder with store in devices.toml" in trouble(done)
    assert not (store() / "jobs").exists()


@pytest.mark.parametrize("refuses", [True, False])
@pytest.mark.parametrize("number", [3, 5])
def test_a_job_program_of_another_version_is_refused(
    harness: Command, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, refuses: bool
) -> None:
    """By the job, and where the job takes any request, by the controller."""
    folder = tmp_path / "other"
    shutil.copytree(paths.RUNNERS, folder)
    main, check = folder / "job" / "job.py", '.get("protocol") != PROTOCOL'
    assert check in main.read_text()
    (folder / "job" / "version.py").write_text(f"PROTOCOL = {number}\n")
    main.write_text(main.read_text().replace(check, check if refuses else '.get("protocol") is None'))
    packed = tmp_path / "job.py"
    with monkeypatch.context() as patched:
        patched.setattr(paths, "RUNNERS", folder)
        packed.write_bytes(program.pack("job"))
    monkeypatch.setattr(program, "job", lambda: packed)
    done = harness("run", str(study), *RUN)
    assert done.code == 3
    words = (
        "this job speaks protocol {}, but the request is in protocol 4: start the job with the version of the harness that wrote the request"
        if refuses
        else "speaks protocol {}, and this harness"
    )
    assert words.format(number) in trouble(done)
    assert not any(row["median_ms"] for row in done.json["devices"][0]["rows"])


@pytest.mark.parametrize(
    ("began", "told"),
    [({"protocol": 3}, "protocol 3"), ({"protocol": 5}, "protocol 5"), ({"protocol": None}, "an earlier protocol")],
)
def test_a_run_that_another_version_began_is_not_gone_on_with(
    harness: Command, study: Path, began: dict[str, int | None], told: str
) -> None:
    folder = measured(harness, study)
    cut_short(folder, **began)
    rewrite(folder / "run.json", lambda run: run["versions"].update(harness="0.0.9"))
    done = harness("run", "--resume", "latest")
    assert done.code == 3
    assert f"of this run speaks {told}" in done.err
    assert "and this harness speaks 4" in done.err
    assert NEXT in done.err
    assert len(list((store() / "jobs").iterdir())) == 1
    # What was measured can be read.
    assert harness("show", "latest").code == 0


def test_a_job_on_the_device_that_turns_out_to_be_another_versions(harness: Command, study: Path) -> None:
    folder = measured(harness, study)
    cut_short(folder)
    (job,) = (store() / "jobs").iterdir()
    rewrite(job / "request.json", lambda asked: asked.update(protocol=5, who={"harness": "9.1"}))
    done = harness("run", "--resume", "latest", "--json")
    assert done.code == 3
    assert "speaks protocol 5 (quant-harness 9.1), and this harness speaks 4" in trouble(done)
    assert NEXT in trouble(done)


def test_a_run_that_this_version_began_is_gone_on_with(harness: Command, study: Path) -> None:
    cut_short(measured(harness, study))
    done = harness("run", "--resume", "latest", "--json")
    assert done.code == 0, done.err


SHOWN: tuple[tuple[str, ...], ...] = (
    ("show", "latest"), ("compare", "latest", "latest"), ("claims", "latest"), ("run", "--resume", "latest"), ("baseline", "save", "latest", "b"),
)  # fmt: skip


@pytest.mark.parametrize("words", SHOWN, ids=lambda words: "-".join(words[:2]))
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"format": 99, "versions": {"harness": "9.1"}},
            "format 99, written by a newer version (quant-harness 9.1); this is quant-harness",
        ),
        ({"format": 1}, "format 1, written by an older version"),
        ({"format": "x"}, "its format is 'x'"),
        (
            {"novelty": [], "versions": {"harness": "9.1"}},
            "written by another version (quant-harness 9.1), with content that this version does not know",
        ),
    ],
    ids=["newer", "older", "nonsense", "same"],
)
def test_a_run_of_another_version_is_called_that(
    harness: Command, tmp_path: Path, words: tuple[str, ...], change: dict[str, Any], told: str
) -> None:
    folder = tmp_path / "work" / "results" / "tiny" / "2026-11-20T10-15-00Z-ab12"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"format": 2, **change}))
    done = harness(*words)
    assert done.code == 2
    assert "run.json" in done.err
    assert told in done.err


def test_a_journal_of_another_version_is_called_that(harness: Command, study: Path) -> None:
    folder = measured(harness, study)
    cut_short(folder)
    with (folder / "journal.jsonl").open("a") as file:
        file.write('{"device": "local", "event": "entangled", "offset": 9}\n')
    done = harness("show", "latest")
    assert done.code == 2
    assert "an event 'entangled', which quant-harness" in done.err
    assert "does not know: use the version that wrote this run" in done.err


def test_a_baseline_of_another_version_is_called_that(harness: Command, study: Path) -> None:
    measured(harness, study)
    assert harness("baseline", "save", "latest", "good").code == 0
    path = Path("baselines/good.json")
    assert json.loads(path.read_text())["format"] == 1
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    for words in (("check", str(study), "--baseline", "good", "--device", "local"), ("baseline", "list")):
        done = harness(*words)
        assert done.code == 2
        assert f"{path}: format 2, written by a newer version" in done.err
    # Those that were saved before the number was always written have the first format.
    content = json.loads(path.read_text())
    del content["format"]
    path.write_text(json.dumps(content))
    assert harness("baseline", "list").code == 0


OTHERS_JOB = """
import fcntl, os, sys, time

files = [open(path, "a") for path in sys.argv[2:4]]
for file in files:
    fcntl.flock(file, fcntl.LOCK_EX)
files[0].write(sys.argv[1])
files[0].flush()
print("held", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, "a job of an earlier protocol (this harness speaks 4)"),
        ({"protocol": 9, "harness": "9.1", "novelty": [1]}, "a job of protocol 9 (quant-harness 9.1) (this harness speaks 4)"),
    ],
    ids=["older", "newer"],
)
def test_a_running_job_of_another_version_is_told_of_and_can_be_ended(
    harness: Command, study: Path, more: dict[str, Any], told: str
) -> None:
    """It holds the store's lease alone, as versions before protocol 4 do."""
    job = store() / "jobs" / "theirs"
    job.mkdir(parents=True)
    said = {"user": "ci", "host": "agent3", "pid": 5, "url": None, "job": "theirs", "since": 1.0, **more}
    words = [sys.executable, "-c", OTHERS_JOB, json.dumps(said), str(store() / "lease"), str(job / "lock")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            (job / "pid").write_text(str(process.pid))
            done = harness("run", str(study), *RUN)
            assert done.code == 75
            assert told in trouble(done)
            assert "wait for it (--wait 10m); to end it: harness device release local" in trouble(done)
            assert told in harness("devices", "--json").json["devices"][0]["busy"]
            if more:
                (store() / "layout").write_text('{"layout": 2}')
            assert harness("device", "release", "local").out == "local: the job was ended\n"
            process.wait(timeout=60)
        finally:
            process.kill()


def test_tickets_of_another_version_are_in_nobodys_way(harness: Command, study: Path) -> None:
    (store() / "queue").mkdir(parents=True)
    (store() / "queue" / "ticket.v5").write_text("{}")
    (store() / "queue" / "-x").write_text("")
    assert harness("run", str(study), *RUN).code == 0
