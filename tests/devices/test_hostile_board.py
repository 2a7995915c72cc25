"""A board that lies, floods or falls silent: what it says is bounded and checked, and it gets nothing that it was not offered."""

from __future__ import annotations

import base64
import hashlib
import io
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.devices import link as links
from harness.devices import registry
from harness.devices.link import Link
from harness.devices.transports import ssh
from harness.errors import DeviceError, RunnerError, TransferError
from harness.measure import accuracy, journal
from tests import duets
from tests.runners.fakes import until
from tests.sshd import SshServer

pytestmark = pytest.mark.ssh

Evil = Callable[..., Link]
# It has started, as startup.py tells.
FIRST_LINE = "print(sys.argv[3].partition('.')[2][::-1], flush=True)\n"
MB = 1_000_000


@pytest.fixture
def evil(sshd: SshServer) -> Any:
    """A board whose Python is a program of its own."""
    opened: list[Link] = []

    def make(code: str, starts: bool = True) -> Link:
        python = sshd.folder / "evil"
        python.write_text(
            f"#!{sshd.python}\nimport json, os, sys, time\nsay = lambda **said: print(json.dumps(said), flush=True)\n"
            f"{FIRST_LINE if starts else ''}{code}\n"
        )
        python.chmod(0o755)
        Path("devices.toml").write_text(sshd.entry("board", python=str(python)))
        opened.append(Link(registry.load().get("board")))
        return opened[-1]

    yield make
    for link in opened:
        link.close()


def test_a_line_without_end(evil: Evil, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "LINE_LIMIT", 4 * MB)
    with pytest.raises(RunnerError, match="it sent a line of more than 4000000 bytes"):
        evil("while True: sys.stdout.write('x' * 65536)").machine()


def test_a_long_line_costs_no_more_than_its_bytes(evil: Evil) -> None:
    begun = time.monotonic()
    said = evil("say(event='machine', much='x' * 30_000_000)").machine()
    assert len(said["much"]) == 30 * MB
    assert time.monotonic() - begun < 60


def test_words_without_end_before_the_first_answer(evil: Evil) -> None:
    with pytest.raises(RunnerError, match=r'the account printed more than 1000 lines first \(it said "hello"\)'):
        evil("while True: print('hello')", starts=False).machine()


@pytest.mark.parametrize(
    "answer", ["'[' * 100_000", "'null'", "'[]'", "'{\"event\": 5}'", "'{\"event\": NaN}'", "chr(0)", "'\\x1b[2J'"]
)
def test_what_is_not_the_protocol(evil: Evil, answer: str) -> None:
    with pytest.raises(RunnerError, match="the agent sent a message that does not follow the protocol"):
        evil(f"say(event='alive')\nprint({answer})").machine()


def test_a_board_that_falls_silent(evil: Evil, sshd: SshServer) -> None:
    # It ends when nobody is left to hear it.
    link = evil("import select\nsilence = select.poll()\nsilence.register(1, 0)\nsilence.poll(600_000)")
    Path("devices.toml").write_text(sshd.entry("board", python=str(sshd.folder / "evil"), silence_time=1))
    patient = Link(registry.load().get("board"))
    begun = time.monotonic()
    with pytest.raises(DeviceError, match="no answer from 127"):
        patient.machine()
    patient.close()
    link.close()
    assert time.monotonic() - begun < 120
    until(lambda: not subprocess.run(["pgrep", "-f", str(sshd.folder / "evil")], check=False, capture_output=True).stdout)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("say(event='missing', sha256=['../../../etc/passwd'])", "requests a file that it was not offered: ../../../etc/passwd"),
        ("say(event='missing', sha256=['{other}'])", "requests a file that it was not offered"),
        ("say(event='missing', sha256=['{own}'])\nsay(event='needed', pieces=[['{other}', 0, 0]])", "pieces that it was not offered"),
        ("say(event='missing', sha256=['{own}'])\nsay(event='needed', pieces=[['{own}', 7, 0]])", "pieces that it was not offered"),
        ("say(event='missing', sha256=['{own}'])\nsay(event='needed', pieces=[['{own}', -1, 0]])", "pieces that it was not offered"),
        ("say(event='missing', sha256=['{own}'])\nsay(event='needed', pieces=[['{own}', 0, -5]])", "pieces that it was not offered"),
        ("say(event='missing', sha256=['{own}'])\nsay(event='needed', pieces='all')", None),
    ],
)  # fmt: skip
def test_only_what_was_offered_is_sent(evil: Evil, tmp_path: Path, code: str, words: str | None) -> None:
    offered, secret = tmp_path / "offered", tmp_path / "secret"
    offered.write_bytes(b"for the board" * 100)
    secret.write_bytes(b"not for the board")
    own, other = (hashlib.sha256(path.read_bytes()).hexdigest() for path in (offered, secret))
    link = evil(code.replace("{own}", own).replace("{other}", other) + "\ntime.sleep(0.5)")
    with pytest.raises((TransferError, RunnerError), match=words):
        link.push({own: offered})


def test_more_output_than_there_may_be(evil: Evil, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "OUTPUT_LIMIT", MB)
    data = base64.b64encode(b"x" * 100_000).decode()
    with pytest.raises(TransferError, match=r"board: collect: c0\.npz is larger than 1000000 bytes"):
        list(evil(f"while True: say(event='data', base64='{data}')").read_outputs("job", ["c0.npz"]))


@pytest.mark.parametrize("end", ["say(event='ended', sha256='0' * 64)", "say(event='ended')", ""])
def test_output_that_is_not_what_it_says(evil: Evil, end: str) -> None:
    # One that ends at once may be gone before it was asked.
    with pytest.raises((TransferError, RunnerError), match=r"c0\.npz arrived damaged|collect: the process ended early"):
        list(evil(f"say(event='data', base64='AAAA')\n{end}").read_outputs("job", ["c0.npz"]))


def test_an_error_is_cut_to_a_length(evil: Evil) -> None:
    with pytest.raises(RunnerError) as caught:
        evil("say(event='error', message='x' * 100_000)").machine()
    assert len(caught.value.reason) == 2000


@pytest.mark.parametrize("data", [b"\xff" * 4 * MB, b"\x01" * 4 * MB, b"\x80" * 4 * MB + b"\x00"])
def test_samples_without_end_take_no_time(data: bytes) -> None:
    samples = {"base": 0, "unit": 1, "count": 3, "data": base64.b64encode(data).decode()}
    line = duets.line(["c0", "c1"], 0, duets.rebuild(duets.pair([[1, 1, 1]] * 2, samples=[samples] * 2)))
    begun = time.process_time()
    with pytest.raises(RunnerError, match=r"not follow the protocol: .*samples"):
        journal.check(line, "board")
    # In time that grows with the square of the length it would be minutes.
    assert time.process_time() - begun < 20


def test_outputs_that_unpack_to_more() -> None:
    reference = object.__new__(accuracy.Reference)
    reference.outputs, reference.names, reference.labels = [[np.zeros((1, 10), np.float32)]], ["y"], None
    packed = io.BytesIO()
    np.savez_compressed(packed, np.zeros(10 * MB))
    case: Any = SimpleNamespace(id="c0")
    assert "more than the 4176 that could be" in str(reference.compare("board", case, packed.getvalue()).reason)
