"""Boards that never stop: no more than a bounded amount of what they say is read or held."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from harness.devices import link
from harness.errors import DeviceError, TransferError
from tests.cli.conftest import Command
from tests.devices.hostile import Twist, opened, say, saying
from tests.devices.test_agent import started


class Peak:
    """The most memory that processes of this user with a word in their command held while it was open, and this process's growth."""

    def __init__(self, word: str) -> None:
        self.word, self.most, self.ended = word.encode(), 0, threading.Event()

    def __enter__(self) -> Self:
        self.before = resident(os.getpid())
        self.here = 0
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()

    def look(self) -> None:
        while not self.ended.wait(0.01):
            self.here = max(self.here, resident(os.getpid()) - self.before)
            for path in Path("/proc").glob("[0-9]*"):
                try:
                    if self.word in (path / "cmdline").read_bytes():
                        self.most = max(self.most, resident(int(path.name)))
                except OSError:
                    continue


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_an_output_without_end_is_given_up(twisted: Callable[[Twist], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "OUTPUT_LIMIT", 1_000_000)

    def twist(_: str, said: bytes) -> Iterator[bytes]:
        while said.strip():
            yield say(event="data", base64="QUJD" * 10_000)

    twisted(twist)
    board = opened()
    with pytest.raises(TransferError, match=r"local: collect: c0\.npz is larger than 1000000 bytes"):
        next(board.read_outputs("job1", ["c0.npz"]))
    board.close()


@pytest.mark.long
def test_a_journal_without_end_is_given_up(
    harness: Command, study: Path, twisted: Callable[[Twist], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "JOURNAL_LIMIT", 200_000)
    twisted(saying(*[say(event="round", round=0, elapsed=0.0)] * 10_000))
    done = harness("run", str(study), "--variant", "fp32", "--rounds", "1", "--json")
    assert done.code == 3
    assert done.json["devices"][0]["trouble"] == "measure: its journal is larger than 200000 bytes"


GIGABYTE = (
    "import os, sys\n"
    "with open(os.path.join(sys.argv[1], 'journal.jsonl'), 'ab') as journal:\n"
    "    journal.truncate({size})\n"
    "    journal.seek({size}); journal.write(b'\\n')\n"
    "open(os.path.join(sys.argv[1], 'rc'), 'w').write('0')\n"
)


def test_a_journals_line_of_a_gigabyte_is_refused_in_bounded_memory() -> None:
    job = started(GIGABYTE.format(size=1_000_000_000))
    board = opened()
    with (
        Peak(job) as peak,
        pytest.raises(DeviceError, match=r"^local: measure: the journal has a line of more than 67108864 bytes"),
    ):
        list(board.follow(job))
    board.close()
    assert 8 << 20 < peak.most < 160 << 20, "the agent holds the line up to its limit"
    assert peak.here < 32 << 20


def test_a_boards_line_of_a_gigabyte_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexec head -c 1000000000 /dev/zero\n")
    script.chmod(0o755)
    Path("devices.toml").write_text(f'[local]\npython = "{script}"\n')
    board = opened()
    with Peak("nothing-has-this-word") as peak, pytest.raises(DeviceError, match=r"^local: measure: "):
        list(board.follow("job1"))
    board.close()
    assert peak.here < 300 << 20


def test_lines_without_end_are_given_up(tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexec yes '\x1b[2J noise'\n")
    script.chmod(0o755)
    Path("devices.toml").write_text(f'[local]\npython = "{script}"\n')
    board = opened()
    with pytest.raises(
        DeviceError, match=r"^local: probe: .*/python did not start on the device: the account printed more than 1000 lines first"
    ):
        board.probe()
    board.close()
