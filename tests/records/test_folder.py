from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness.errors import ResultsError
from harness.measure import journal
from harness.records import folder

NOW = datetime(2026, 11, 20, 10, 15, tzinfo=UTC)


def make(root: Path, study: str, name: str, *devices: dict[str, str], launches: tuple[str, ...] = ()) -> Path:
    path = root / study / name
    path.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps({"devices": devices, "launches": launches}) if devices else "{}")
    return path


def test_a_new_folder_has_the_time_in_its_name(tmp_path: Path) -> None:
    made = folder.create_folder(tmp_path, "digits", NOW)
    assert made.parent == tmp_path / "digits"
    assert made.name.startswith("2026-11-20T10-15-00Z-")
    assert (made / "journal.jsonl").exists()


def test_a_place_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match=r"the results folder can't be created: .*--results DIR"):
        folder.create_folder(tmp_path / "file", "digits", NOW)


def test_find_by_path_prefix_study_and_latest(tmp_path: Path) -> None:
    old = make(tmp_path, "digits", "2026-11-19T00-00-00Z-aaaa")
    new = make(tmp_path, "other", "2026-11-20T00-00-00Z-bbbb")
    assert folder.find_run(str(old), tmp_path) == old
    assert folder.find_run("2026-11-19", tmp_path) == old
    assert folder.find_run("other/2026", tmp_path) == new
    assert folder.find_run("latest", tmp_path) == new


def test_the_latest_is_not_one_that_found_every_device_busy(tmp_path: Path) -> None:
    busy = {"state": "failed", "failure": "busy"}
    lost = {"state": "failed", "step": "connect"}
    first = make(tmp_path, "digits", "2026-11-18T00-00-00Z-aaaa", busy)
    assert folder.find_run("latest", tmp_path) == first, "there is no other"
    some = make(tmp_path, "digits", "2026-11-19T00-00-00Z-bbbb", busy, lost)
    last = make(tmp_path, "digits", "2026-11-20T00-00-00Z-cccc", busy, busy)
    assert folder.find_run("latest", tmp_path) == some
    assert folder.find_run("latest", tmp_path, refused=True) == last, "it can be gone on with"
    gone_on = make(tmp_path, "digits", "2026-11-19T00-00-01Z-dddd", busy, launches=("measured before",))
    assert folder.find_run("latest", tmp_path) == gone_on, "a resumption that found it busy"
    shutil.rmtree(gone_on)
    (some / "run.json").write_text("damaged")
    assert folder.find_run("latest", tmp_path) == some


@pytest.mark.parametrize(
    ("name", "words"), [("2026", "matches 2 runs"), ("2025", "the latest is other/2026-11-20"), ("", "no run ''")]
)
def test_find_says_what_there_is(tmp_path: Path, name: str, words: str) -> None:
    make(tmp_path, "digits", "2026-11-19T00-00-00Z-aaaa")
    make(tmp_path, "other", "2026-11-20T00-00-00Z-bbbb")
    with pytest.raises(ResultsError, match=words):
        folder.find_run(name, tmp_path)


def test_no_runs_at_all(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="has no runs; start one with 'harness run'"):
        folder.find_run("latest", tmp_path)


@pytest.mark.parametrize("text", ["{}", "", "not json", "[]", '{"format": 2}'])
def test_a_run_json_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(
        ResultsError,
        match=r"run\.json: the file is not the record of a run, or is damaged: \w.*; restore it, or start a new run",
    ):
        folder.load_run(tmp_path)


@pytest.mark.parametrize("name", ["run.json", "journal.jsonl"])
def test_a_run_whose_file_is_gone(tmp_path: Path, name: str) -> None:
    place = re.escape(str(tmp_path / name))
    with pytest.raises(ResultsError, match=f"^{place}: can't be read: No such file or directory; [^[]*$"):
        folder.load_run(tmp_path) if name == "run.json" else list(journal.read(tmp_path / name))


def test_a_new_run_s_folder_is_told_to_the_file_that_a_script_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "told"
    monkeypatch.setenv("HARNESS_RUN_FILE", str(told))
    made = folder.create_folder(Path("results"), "study", datetime.now(UTC))
    assert told.read_text() == f"{made.resolve()}\n"
    monkeypatch.setenv("HARNESS_RUN_FILE", str(tmp_path / "absent" / "told"))
    with pytest.raises(ResultsError, match=r"HARNESS_RUN_FILE=.*: can't be written: No such file or directory; unset it"):
        folder.create_folder(Path("results"), "study", datetime.now(UTC))
