"""The agent as a process, as its PROTOCOL.md tells."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.paths import RUNNERS
from tests.runners import programs

HELLO = b"hello board"
HASH = hashlib.sha256(HELLO).hexdigest()


def run(*words: str, data: bytes = b"", **options: Any) -> tuple[list[dict[str, Any]], int]:
    done = subprocess.run(programs.agent(*words), input=data, capture_output=True, timeout=60, check=False, **options)
    return [json.loads(line) for line in done.stdout.splitlines()], done.returncode


def frame(data: bytes, sha256: str | None = None) -> bytes:
    """What a sender says about one file, and the file."""
    name = sha256 or hashlib.sha256(data).hexdigest()
    lines = [{"files": [[name, len(data)]], "quota": None}, {"layouts": {name: [[name, len(data)]]}}]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines) + data


def store() -> Path:
    return Path(os.environ["QUANT_HARNESS_HOME"])


def test_receive_says_what_is_missing_and_stores_it() -> None:
    said, code = run("receive", data=frame(HELLO))
    assert [line["event"] for line in said] == ["missing", "needed", "stored"]
    assert said[0]["sha256"] == [HASH]
    assert said[1]["pieces"] == [[HASH, 0, 0]]
    assert code == 0
    assert (store() / "blobs" / "sha256" / HASH).read_bytes() == HELLO
    said, _ = run("receive", data=json.dumps({"files": [[HASH, len(HELLO)]]}).encode() + b"\n")
    assert said == [{"event": "missing", "sha256": []}]


def test_the_store_is_its_owners_alone() -> None:
    run("receive", data=frame(HELLO))
    assert stat.S_IMODE(store().stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (frame(HELLO)[:-3], "bytes before the end of a file"),
        (frame(HELLO, "../../../etc/passwd"), "not a sha256"),
        (b"not json\n", "Expecting value"),
        (
            frame(HELLO).replace(
                b'"layouts": {"%s": [["%s", 11]' % (2 * (HASH.encode(),)),
                b'"layouts": {"%s": [["%s", 12]' % (2 * (HASH.encode(),)),
            ),
            "do not add up to its size",
        ),
    ],
)
def test_a_delivery_that_is_not_what_it_says_installs_nothing(data: bytes, words: str) -> None:
    said, code = run("receive", data=data)
    assert code == 1
    assert said[-1]["event"] == "error"
    assert words in said[-1]["message"]
    blobs = store() / "blobs" / "sha256"
    assert not blobs.exists() or [path for path in blobs.iterdir() if path.suffix != ".part"] == []


def test_a_file_with_another_hash_is_damaged_and_not_kept() -> None:
    said, code = run("receive", data=frame(HELLO, "0" * 64))
    assert (said[-1], code) == ({"event": "damaged", "sha256": "0" * 64}, 0)
    assert list((store() / "blobs" / "sha256").iterdir()) == []


def test_a_store_that_is_not_writable_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said, code = run("receive", data=frame(HELLO), env={**os.environ, "QUANT_HARNESS_HOME": str(tmp_path / "file" / "store")})
    assert code == 1
    assert str(tmp_path / "file") in said[-1]["message"]


def test_start_refuses_another_protocol_and_asks_for_what_is_not_there() -> None:
    assert "protocol" in run("start", "j", HASH, HASH, data=b'{"protocol": 99}')[0][0]["message"]
    assert run("start", "j", HASH, HASH, data=asking(HASH))[0] == [{"event": "missing", "sha256": [HASH]}]


@pytest.mark.parametrize("job", ["../escape", "a/b", "", ".hidden"])
def test_a_jobs_name_can_not_leave_the_store(job: str) -> None:
    said, code = run("follow", job, "0")
    assert code == 1
    assert "not a plain name" in said[0]["message"]


def asking(program: str) -> bytes:
    """A request that needs this program only."""
    return json.dumps({"protocol": 4, "prober": program, "cases": []}).encode()


def started(body: str) -> str:
    """Start a job that is the given code."""
    code = body.encode()
    sha256 = hashlib.sha256(code).hexdigest()
    run("receive", data=frame(code))
    said, _ = run("start", "job1", sha256, sha256, data=asking(sha256))
    assert said[0]["event"] == "started"
    return "job1"


WRITES = """
import os, sys, time
folder = sys.argv[1]
with open(os.path.join(folder, "journal.jsonl"), "a") as journal:
    for n in range(3):
        journal.write('{"event": "round", "round": %d}\\n' % n); journal.flush(); time.sleep(0.1)
with open(os.path.join(folder, "rc"), "w") as file: file.write("0")
"""


def test_follow_gives_every_line_once_and_from_any_offset() -> None:
    job = started(WRITES)
    said, _ = run("follow", job, "0")
    assert [line.get("round") for line in said] == [0, 1, 2, None]
    assert said[-1] == {"event": "ended"}
    first = len((store() / "jobs" / job / "journal.jsonl").read_bytes().splitlines(keepends=True)[0])
    said, _ = run("follow", job, str(first))
    assert [line.get("round") for line in said] == [1, 2, None]


def test_follow_tells_that_a_job_died_and_its_last_words() -> None:
    job = started("raise SystemExit('boom in the runner')")
    said, _ = run("follow", job, "0")
    assert said[-1]["event"] == "died"
    assert "boom in the runner" in said[-1]["log"]


def test_stop_ends_a_job_and_its_children() -> None:
    job = started(
        "import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\ntime.sleep(60)"
    )
    assert run("stop", job)[0] == [{"event": "stopped", "was_running": True}]
    assert run("stop", job)[0] == [{"event": "stopped", "was_running": False}]
    assert run("follow", job, "0")[0][-1]["event"] == "died"


def test_read_gives_an_output_with_its_hash() -> None:
    job = started("import os, sys\nopen(os.path.join(sys.argv[1], 'outputs', 'c0.npz'), 'wb').write(b'x' * 600000)")
    run("follow", job, "0")
    said, _ = run("read", job, "c0.npz")
    assert [line["event"] for line in said] == ["data", "data", "ended"]
    assert said[-1] == {"event": "ended", "size": 600000, "sha256": hashlib.sha256(b"x" * 600000).hexdigest()}


def test_reading_what_is_not_there_names_it() -> None:
    said, code = run("read", "nojob", "c0.npz")
    assert code == 1
    assert "c0.npz" in said[0]["message"]


def test_a_full_disk_is_named_with_its_place() -> None:
    code = (
        "import errno, os, runpy, sys\nsys.path[:0] = [sys.argv[1] + '/agent', sys.argv[1] + '/shared']\nimport upload\n"
        "def full(*_): raise OSError(errno.ENOSPC, 'No space left on device')\nupload.write = full\n"
        "runpy.run_path(sys.argv.pop(1) + '/agent/agent.py', run_name='__main__')"
    )
    command = [sys.executable, "-c", code, str(RUNNERS), "receive"]
    done = subprocess.run(command, input=frame(HELLO), capture_output=True, timeout=60, check=False)
    words = f"the disk of {store()} is full: make room there (No space left on device: {store()})"
    assert json.loads(done.stdout.splitlines()[-1])["message"] == words
    assert list((store() / "blobs" / "sha256").iterdir()) == [], "what nobody can go on from is in the way"
