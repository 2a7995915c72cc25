"""What a store of another version is met with, and what an agent says that is asked by another version."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.devices.test_agent import HASH, HELLO, frame, run, store
from tests.runners import programs

STORE_COMMANDS = (
    ("receive",), ("unpack",), ("adopt", HASH), ("probe", HASH, HASH), ("start", "j", HASH, HASH), ("has", "j"), ("follow", "j", "0"),
    ("read", "j", "c0.npz"), ("stop", "j"),
)  # fmt: skip


def mark(text: str) -> Path:
    store().mkdir(parents=True, exist_ok=True)
    path = store() / "layout"
    path.write_text(text)
    return path


@pytest.mark.parametrize("words", STORE_COMMANDS, ids=lambda words: words[0])
def test_a_store_of_a_newer_version_is_refused_and_left_as_it_is(words: tuple[str, ...]) -> None:
    path = mark('{"layout": 2, "new": true}')
    (said,), code = run(*words, data=frame(HELLO))
    assert code == 1
    assert said["event"] == "error"
    assert said["message"] == (
        f"the store {store()} has layout 2, of a newer version of the harness; this version supports layout 1: upgrade the harness on this machine, or name "
        "another folder with store in devices.toml"
    )
    assert [path.name for path in store().iterdir()] == ["layout"]
    assert path.read_text() == '{"layout": 2, "new": true}'


@pytest.mark.parametrize("words", [("machine",), ("holder",), ("release",)])
def test_a_job_of_a_newer_version_can_be_seen_and_ended(words: tuple[str, ...]) -> None:
    mark('{"layout": 2}')
    assert run(*words)[1] == 0


@pytest.mark.parametrize("said", ['{"layout": "two"}', '{"layout": true}', '{"format": 1}', "[1]", "2", '{"layout": 1e3}'])
def test_a_mark_that_this_version_does_not_understand_is_a_newer_ones(said: str) -> None:
    mark(said)
    assert "a file 'layout' of a newer version of the harness, or a damaged one" in run("has", "j")[0][0]["message"]


@pytest.mark.parametrize(
    "words", [("machine",), ("receive",), ("unpack",), ("probe", HASH, HASH), ("start", "j", HASH, HASH)], ids=" ".join
)
@pytest.mark.parametrize(
    "name", ["blobs", "blobs/sha256", "jobs", "queue", "runtimes", "lease", "imported", "layout", "runtimes/current"]
)
@pytest.mark.parametrize("dangling", [False, True], ids=["there", "dangling"])
def test_a_wrong_thing_in_the_store_is_named(name: str, words: tuple[str, ...], dangling: bool) -> None:
    path, kind = store() / name, "folder" if name in {"blobs", "blobs/sha256", "jobs", "queue", "runtimes"} else "file"
    path.parent.mkdir(parents=True, exist_ok=True)
    if dangling:
        path.symlink_to("nothing")
    elif kind == "folder":
        path.touch()
    else:
        path.mkdir()
    (said,), code = run(*words, data=b"")
    assert code == 1
    assert said["message"] == f"{path} is not a {kind}: remove it, or name another store with store in devices.toml"


@pytest.mark.parametrize("limit", ["-v 100000", "-d 100000"])
def test_a_limit_of_memory_that_no_runtime_can_work_with_is_named(limit: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'ulimit {limit}; exec "$0" "$@"', *programs.agent("machine")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"the account may use 97 MB of memory (ulimit {limit[:2]})" in json.loads(done.stdout)["message"]


@pytest.mark.parametrize("left", ["", "{", "\0\0\0\0"])
def test_a_store_without_a_mark_is_an_older_ones_and_is_used(left: str) -> None:
    """So is one whose mark the power cut destroyed."""
    assert run("receive", data=frame(HELLO))[0][-1]["event"] == "stored"
    mark(left)
    assert run("receive", data=frame(HELLO).splitlines(keepends=True)[0])[0] == [{"event": "missing", "sha256": []}]
    assert json.loads((store() / "layout").read_text()) == {"layout": 1, "protocol": 4}


@pytest.mark.parametrize("words", [("frobnicate",), ("COMMANDS",), ("__class__",), ()])
def test_a_command_of_another_version_is_a_clear_error(words: tuple[str, ...]) -> None:
    (said,), code = run(*words)
    assert code == 1
    name = words[0] if words else ""
    assert said["message"] == (
        f"this agent speaks protocol 4 and has no command '{name}': another version of the harness called it; use the same version on both sides"
    )


def test_a_request_that_lacks_something_is_a_clear_error() -> None:
    assert run("start", "j", HASH, HASH, data=b'{"protocol": 4}')[0][0]["message"] == "the request lacks the key 'prober'"
    assert run("start", "j", HASH, HASH, data=b"[]")[0][0]["event"] == "error"


def test_a_job_of_another_version_says_which_one() -> None:
    folder = store() / "jobs" / "j"
    folder.mkdir(parents=True)
    (folder / "pid").write_text("1")
    for text, told in (
        ('{"protocol": 3}', (3, None)),
        ('{"protocol": 5, "who": {"harness": "9.1"}}', (5, "9.1")),
        ('{"who": []}', (None, None)),
        ("{", (None, None)),
        ("[1]", (None, None)),
    ):
        (folder / "request.json").write_text(text)
        assert run("has", "j")[0] == [{"event": "has", "found": True, "protocol": told[0], "harness": told[1]}]
