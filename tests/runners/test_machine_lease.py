"""The lease covers the machine: real processes of real accounts, each with a store of its own."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from harness.paths import RUNNERS
from tests.devices.test_agent import run as agent
from tests.runners import programs
from tests.runners.accounts import ACCOUNTS, as_account, begin_as, python_as, queue
from tests.runners.accounts import shared as shared  # noqa: PLC0414 - a fixture
from tests.runners.fakes import alive, begin, children, journal, named, place, until
from tests.runners.test_lease import HOLDS
from tests.sshd import ACCOUNT, OTHER, account_python

TRIALS, AT_ONCE = 200, 10
FOREVER = "time.sleep(600)"
BIND = """
import json, os, socket, sys, time
held = socket.socket(socket.AF_UNIX)
held.bind(b"\\0quant-harness-lease-" + os.environ["QUANT_HARNESS_LEASE"].encode())
"""


TRICKLE = """
held.listen(5)
while True:
    asker, _ = held.accept()
    try:
        while True:
            asker.sendall(b' ')
            time.sleep(0.1)
    except OSError:
        pass
"""


def holder() -> dict[str, Any] | None:
    """What the agent of this account says of the holder."""
    (said,) = agent("holder")[0]
    return None if said["holder"] is None else json.loads(said["holder"])


def killed(process: subprocess.Popen[str]) -> None:
    """End a session that a test has begun."""
    for pid in [*children(process.pid), process.pid]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.communicate(timeout=60)


def held(shared: Path, account: str, job: str = "held", **changes: Any) -> tuple[subprocess.Popen[str], int]:
    """A job that measures until it is ended; gives it and its worker."""
    folder = queue(shared, account, job, FOREVER, timeout=600.0, longest=900.0, **changes)
    process = begin_as(account, folder)
    until(lambda: named(folder, "begin") and children(process.pid))
    return process, children(process.pid)[0]


def race(shared: Path) -> list[list[str]]:
    """Start a job of either account at once; the one that got the device lets go when both have said something. Gives their events."""
    shared.mkdir()
    code = HOLDS.format(str(shared / "go"))
    folders = [queue(shared, name, "job", code, rounds=0, units=[], who={"user": name}) for name in ACCOUNTS]
    processes = [
        begin_as(name, folder, QUANT_HARNESS_LEASE=f"{os.getpid()}-{shared.name}")
        for name, folder in zip(ACCOUNTS, folders, strict=True)
    ]
    until(lambda: all(journal(folder) for folder in folders))
    (shared / "go").touch()
    for process in processes:
        assert process.communicate(timeout=60)[1] == ""
    lines = sorted((journal(folder) for folder in folders), key=len)
    said = json.loads(lines[0][0]["holder"])
    assert said["account"] == said["user"] in ACCOUNTS
    return [[line["event"] for line in each] for each in lines]


@pytest.mark.slow
@pytest.mark.faults
def test_of_two_accounts_that_race_exactly_one_wins_every_time(shared: Path) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(race, [shared / str(number) for number in range(TRIALS)]))
    assert found == [[["busy"], ["begin", "evaluated", "end"]]] * TRIALS


def test_another_account_is_refused_and_told_who_holds_the_machine(shared: Path) -> None:
    who = {"user": "ci", "host": "agent3", "pid": 4711, "url": "https://ci/job/7", "harness": "0.1.0"}
    process, _ = held(shared, ACCOUNT, who=who)
    try:
        folder = queue(shared, OTHER, "late", "pass")
        late = begin_as(OTHER, folder)
        assert late.communicate(timeout=60)[1] == ""
        (line,) = journal(folder)
        told = json.loads(line["holder"])
        assert line["event"] == "busy"
        assert told.pop("since") == pytest.approx(time.time(), abs=600)
        assert told == {
            **who, "job": "held", "protocol": 4, "account": ACCOUNT, "uid": told["uid"], "process": process.pid, "answers": True,
            "mine": False,
        }  # fmt: skip
        assert holder() == {**told, "mine": os.geteuid() == 0, "since": pytest.approx(time.time(), abs=600)}
    finally:
        killed(process)
    until(lambda: holder() is None)


def test_who_waits_gets_the_machine_when_the_other_account_has_ended(shared: Path) -> None:
    process, _ = held(shared, ACCOUNT)
    folder = queue(shared, OTHER, "late", "pass", wait=60)
    late = begin_as(OTHER, folder)
    until(lambda: named(folder, "waiting"))
    assert json.loads(named(folder, "waiting")[0]["holder"])["account"] == ACCOUNT
    killed(process)
    assert late.communicate(timeout=60)[1] == ""
    assert [line["event"] for line in journal(folder)][:2] == ["waiting", "begin"]


@pytest.mark.faults
def test_the_workers_of_a_killed_job_hold_the_machine_until_they_have_ended(shared: Path) -> None:
    process, worker = held(shared, ACCOUNT)
    process.kill()
    process.communicate(timeout=60)
    assert alive(worker)
    folder = queue(shared, OTHER, "late", "pass")
    begin_as(OTHER, folder).communicate(timeout=60)
    told = json.loads(named(folder, "busy")[0]["holder"])
    assert (told["account"], told["process"], told["answers"]) == (ACCOUNT, process.pid, False)
    os.kill(worker, signal.SIGKILL)
    until(lambda: not alive(worker))
    folder = queue(shared, OTHER, "next", "pass")
    begin_as(OTHER, folder).communicate(timeout=60)
    assert named(folder, "end")


def test_a_frozen_job_is_named_by_the_kernel(shared: Path) -> None:
    process, _ = held(shared, ACCOUNT)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        told = holder()
        assert told is not None
        assert (told["account"], told["process"], told["answers"]) == (ACCOUNT, process.pid, False)
        assert time.monotonic() - begun < 120
    finally:
        killed(process)


@pytest.mark.parametrize("freeze", [False, pytest.param(True, marks=pytest.mark.faults)])
def test_only_the_same_account_and_root_may_end_a_job(shared: Path, freeze: bool) -> None:
    process, worker = held(shared, ACCOUNT)
    if freeze:
        os.kill(process.pid, signal.SIGSTOP)
    try:
        words = [account_python(), str(copied(shared) / "agent.py"), "release"]
        asked = as_account(OTHER, words, QUANT_HARNESS_HOME=str(shared / "empty"))
        out, _ = asked.communicate(timeout=60)
        said = json.loads(out)
        assert said["event"] == "held"
        assert json.loads(said["holder"])["account"] == ACCOUNT
        assert said["mine"] is False
        assert alive(process.pid)
        # This test is root's.
        assert agent("release")[0] == [{"event": "stopped", "was_running": True}]
        process.communicate(timeout=60)
        until(lambda: not alive(worker))
        assert agent("release")[0] == [{"event": "stopped", "was_running": False}]
    finally:
        killed(process)


def copied(shared: Path) -> Path:
    """The agent, where every account can read it, and an empty store for each."""
    place = shared / "agent"
    place.mkdir(exist_ok=True)
    for path in (*(RUNNERS / "agent").glob("*.py"), *(RUNNERS / "shared").glob("*.py")):
        (place / path.name).write_bytes(path.read_bytes())
        (place / path.name).chmod(0o644)
    (shared / "empty").mkdir(exist_ok=True)
    (shared / "empty").chmod(0o777)
    return place


@pytest.mark.parametrize("died", [False, True])
def test_release_ends_a_job_of_the_same_account_in_another_store(tmp_path: Path, died: bool) -> None:
    folder = place(tmp_path / "other", "held", FOREVER, timeout=600.0, longest=900.0)
    process = begin(folder)
    until(lambda: named(folder, "begin") and children(process.pid))
    (worker,) = children(process.pid)
    try:
        if died:
            process.kill()
            process.wait(timeout=60)
            assert alive(worker), "it holds the device on its own"
        assert agent("release")[0] == [{"event": "stopped", "was_running": True}]
        process.communicate(timeout=60)
        until(lambda: not alive(worker))
    finally:
        killed(process)
    assert holder() is None


@pytest.mark.faults
@pytest.mark.parametrize(
    "code",
    [
        "held.listen(5); time.sleep(600)",
        "time.sleep(600)",
        "held.listen(5)\nwhile True: asker, _ = held.accept(); time.sleep(600)",
        "held.listen(5)\nwhile True: held.accept()[0].sendall(b'[' * 100_000)",
        'held.listen(5)\nwhile True: held.accept()[0].sendall(b\'{"user": 5, "since": 1e999, "host": [], "job": {}}\')',
        TRICKLE,
    ],
)
def test_whoever_takes_the_name_can_do_no_more_than_hold_it(shared: Path, code: str) -> None:
    process = python_as(OTHER, f"{BIND}print('bound')\n{code}")
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "bound\n"
        begun = time.monotonic()
        told = holder()
        if code != "time.sleep(600)":
            assert told is not None
            assert told["account"] == OTHER
            assert set(told) <= {"uid", "account", "process", "answers", "mine"}
        folder = queue(shared, ACCOUNT, "job", "pass")
        begin_as(ACCOUNT, folder).communicate(timeout=60)
        assert named(folder, "busy")
        assert time.monotonic() - begun < 60
    finally:
        killed(process)


@pytest.mark.usefixtures("shared")
def test_what_a_holder_claims_is_bounded_and_its_account_is_the_kernels_word() -> None:
    claim = {"account": "root", "uid": 0, "url": "u" * 900, "job": "held", "since": 5, "more": [1]}
    for user in ("\x1b[2Jci", "\x1b[2J" + "x" * 5000):
        said = json.dumps({**claim, "user": user}).encode()
        process = python_as(OTHER, f"{BIND}held.listen(5)\nprint('bound')\nwhile True: held.accept()[0].sendall({said!r})")
        try:
            assert process.stdout is not None
            process.stdout.readline()
            told = holder()
            assert told is not None
            assert told["account"] == OTHER
            assert "more" not in told
            assert len(json.dumps(told)) < 2000
            assert told.get("user") in {None, "?[2Jci"}
        finally:
            killed(process)


@pytest.mark.usefixtures("shared")
def test_a_claim_to_be_a_job_of_this_store_ends_nothing_here(tmp_path: Path) -> None:
    """The process group of a job that ended may be another one's by now: what another account says must not have it killed."""
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    folder = place(tmp_path / "store", "mine", "pass")
    (folder / "pid").write_text(str(bystander.pid))
    (folder / "lock").touch()
    process = python_as(
        OTHER, BIND + "held.listen(5)\nprint('bound')\nwhile True: held.accept()[0].sendall(b'{\"job\": \"mine\"}')"
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        agent("follow", "mine", "0")
        # It is root that asks here, and root may end a process of the account that holds the name.
        assert agent("release")[0][0]["event"] == "stopped"
        assert alive(bystander.pid)
    finally:
        killed(process)
        bystander.kill()
        bystander.wait()


def test_a_job_of_an_earlier_version_in_the_same_store_is_honoured(tmp_path: Path) -> None:
    """It holds the store's lock alone."""
    folder = place(tmp_path, "late", "pass")
    told = {"user": "ci", "host": "agent3", "pid": 5, "url": None, "job": "old", "since": 1.0}
    code = f"import fcntl, time\nf = open({str(tmp_path / 'lease')!r}, 'w')\nfcntl.flock(f, 2)\nf.write({json.dumps(told)!r})\nf.flush()\nprint('bound', flush=True)\ntime.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as old:
        try:
            assert old.stdout is not None
            old.stdout.readline()
            begin(folder).communicate(timeout=60)
            assert json.loads(named(folder, "busy")[0]["holder"]) == told
        finally:
            old.kill()


def test_jobs_of_one_controller_wait_for_each_other(tmp_path: Path) -> None:
    """Two entries of devices.toml may be the same machine."""
    mine = {"user": "me", "host": "here", "pid": 7, "controller": "ab"}
    go = HOLDS.format(str(tmp_path / "go"))
    first = begin(place(tmp_path / "one", "first", go, rounds=0, units=[], who=mine))
    until(lambda: journal(tmp_path / "one" / "jobs" / "first"))
    folder = place(tmp_path / "two", "second", "pass", rounds=0, units=[], who=mine)
    second = begin(folder)
    until(lambda: named(folder, "waiting"))
    time.sleep(1.5)
    assert second.poll() is None
    (tmp_path / "go").touch()
    assert [first.communicate(timeout=60)[1], second.communicate(timeout=60)[1]] == ["", ""]
    assert named(folder, "end")


REFUSED = """
import errno, os, socket
class Refused(socket.socket):
    def bind(self, address):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
socket.socket = Refused
"""


def test_where_the_machine_refuses_such_sockets_the_stores_lease_holds_and_the_journal_says_so(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(REFUSED)
    path = str(tmp_path / "site")
    first = place(tmp_path, "first", HOLDS.format(str(tmp_path / "go")), rounds=0, units=[], who={"user": "me"})
    process = begin(first, PYTHONPATH=path)
    until(lambda: named(first, "begin"))
    assert named(first, "lease") == [
        {"event": "lease", "reason": "the system does not allow this account to take the lease of the machine: Permission denied"}
    ]
    second = place(tmp_path, "second", "pass")
    begin(second, PYTHONPATH=path).communicate(timeout=60)
    assert json.loads(named(second, "busy")[0]["holder"])["user"] == "me"
    (tmp_path / "go").touch()
    assert process.communicate(timeout=60)[1] == ""


def test_a_network_namespace_of_its_own_has_a_lease_of_its_own(shared: Path) -> None:
    """As docs/devices.md says of containers."""
    if subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no network namespace can be made here")
    process, _ = held(shared, ACCOUNT)
    try:
        words = ["unshare", "-n", *programs.agent("holder")]
        inside = subprocess.run(words, capture_output=True, text=True, check=True)
        assert json.loads(inside.stdout)["holder"] is None
        assert holder() is not None
    finally:
        killed(process)


def test_root_in_another_pid_namespace_sees_the_account_and_can_not_end_the_job(shared: Path) -> None:
    """As in a container with the network of the host."""
    apart = ["unshare", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no pid namespace can be made here")
    process, _ = held(shared, ACCOUNT)
    try:
        inside = subprocess.run([*apart, *programs.agent("release")], capture_output=True, text=True, check=True)
        said = json.loads(inside.stdout)
        assert (said["event"], said["mine"]) == ("held", True)
        assert (json.loads(said["holder"])["account"], json.loads(said["holder"])["process"]) == (ACCOUNT, None)
        assert alive(process.pid)
    finally:
        killed(process)


def test_killing_an_agent_that_follows_changes_nothing(tmp_path: Path) -> None:
    folder = place(tmp_path / "store", "held", FOREVER, timeout=600.0, longest=900.0)
    with (folder / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = begin(folder, lock.fileno())
    try:
        until(lambda: named(folder, "begin"))
        follow = programs.agent("follow", "held", "0")
        with subprocess.Popen(follow, stdout=subprocess.PIPE, text=True) as follower:
            assert follower.stdout is not None
            assert json.loads(follower.stdout.readline())["event"] == "begin"
            follower.kill()
        told = holder()
        assert told is not None
        assert (told["process"], told["answers"]) == (process.pid, True)
    finally:
        killed(process)


@pytest.mark.parametrize(("name", "address"), [(None, "b'\\x00quant-harness-lease'"), ("a.b", "b'\\x00quant-harness-lease-a.b'")])
def test_the_name(name: str | None, address: str) -> None:
    env = {key: value for key, value in os.environ.items() if key != "QUANT_HARNESS_LEASE"} | (
        {"QUANT_HARNESS_LEASE": name} if name else {}
    )
    words = [sys.executable, "-c", "import machine_lease; print(machine_lease.address())"]
    assert (
        subprocess.run(words, cwd=RUNNERS / "shared", env=env, capture_output=True, text=True, check=True).stdout.strip()
        == address
    )


@pytest.mark.parametrize("name", ["a b", "x" * 65, "\n", "ä"])
def test_a_name_that_can_not_be(name: str) -> None:
    (said,), code = agent("holder", env={**os.environ, "QUANT_HARNESS_LEASE": name})
    assert code == 1
    assert "QUANT_HARNESS_LEASE must be 1 to 64 letters" in said["message"]
