"""The pipeline as a server would run it: the shell steps of ci/Jenkinsfile, one after the other, over a real OpenSSH server."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.test_check import SLOWER, STUDY
from tests.conftest import ROOT
from tests.models import conv_chain

if TYPE_CHECKING:
    from tests.cli.conftest import Command
    from tests.sshd import SshServer

JENKINSFILE = (ROOT / "ci" / "Jenkinsfile").read_text()


def steps() -> tuple[str, str, str]:
    """The shell steps of the stages 'Set up' and 'Gate', and of post."""
    set_up, report = re.findall(r"sh '(ci/stage\.sh \w+)'", JENKINSFILE)
    (gate,) = re.findall(r"script: '''(.*?)'''", JENKINSFILE, re.DOTALL)
    return set_up, gate, report


class Server:
    """What Jenkins gives a build: a workspace and an environment."""

    def __init__(self, workspace: Path, key: Path) -> None:
        self.workspace = workspace
        self.key = key
        self.environment = {
            **os.environ,
            "HARNESS_VENV": sys.prefix,
            "HARNESS_RESULTS": str(workspace / "results"),
            "HARNESS_REPORTS": str(workspace / "reports"),
            "HARNESS_DEVICES": str(workspace / "devices.toml"),
            "STUDY": "study.toml",
            "BASELINE": "release",
            "BOARD": "board",
            "BOARD_KEY": str(key),
            "BUILD_URL": "https://ci.example/job/gate/1/",
            "TMPDIR": str(workspace / "tmp"),
        }
        (workspace / "tmp").mkdir()
        self.number = 0

    def start(self, step: str) -> subprocess.Popen[str]:
        """A step, as the sh step runs it: a script with -xe, in a session of its own."""
        return subprocess.Popen(
            ["sh", "-xe", "-c", step], cwd=self.workspace, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip

    def run(self, step: str) -> tuple[int, str]:
        """A step to its end: its exit code and all that it printed."""
        process = self.start(step)
        out, err = process.communicate(timeout=300)
        return process.returncode, out + err

    def next_build(self) -> None:
        """Begin another build in the same workspace."""
        self.number += 1
        self.environment["BUILD_URL"] = f"https://ci.example/job/gate/{self.number}/"

    def build(self) -> tuple[int, str]:
        """The stages, and post; the gate's exit code and what all of them printed."""
        self.next_build()
        set_up, gate, report = steps()
        words = ""
        for step in (set_up, gate, report):
            code, said = self.run(step)
            words += said
            if step == gate:
                verdict = code
            else:
                assert code == 0, said
        return verdict, words


@pytest.fixture
def server(tmp_path: Path, sshd: SshServer, harness: Command) -> Server:
    """A workspace with a study, a registry whose key is in the agent alone, and a release's baseline."""
    workspace = tmp_path / "work"
    shutil.copytree(ROOT / "ci", workspace / "ci")
    (workspace / "study.toml").write_text(STUDY)
    (workspace / "devices.toml").write_text(sshd.entry("board"))
    conv_chain(workspace / "model.onnx", 3)
    assert harness("run", "study.toml", "--device", "board", "--rounds", "3").code == 0
    assert harness("baseline", "save", "latest", "release").code == 0
    shutil.rmtree(workspace / "results")
    entry = re.sub(r"^identity_file.*\n", "", sshd.entry("board"), flags=re.MULTILINE)
    (workspace / "devices.toml").write_text(entry)
    return Server(workspace, sshd.identity)


def agents(server: Server) -> list[str]:
    """The ssh-agents that a workspace's gates began and that still run, and what they left in its folder for temporary files."""
    folder = server.environment["TMPDIR"]
    deadline = time.monotonic() + 60
    while (left := [*_commands_with(f"-a {folder}"), *map(str, Path(folder).iterdir())]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def _commands_with(words: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [command for command in found if words in command]


def outcome(workspace: Path) -> tuple[ET.Element, str]:
    """The test report's case that is timed, and what became of it."""
    cases = ET.parse(workspace / "reports" / "junit.xml").getroot().iter("testcase")
    case = next(case for case in cases if case.attrib["name"] != "given.outputs")
    return case, next((child.tag for child in case if child.tag != "system-out"), "passed")


@pytest.mark.faults
@pytest.mark.ssh
@pytest.mark.slow
def test_a_build_passes_and_one_with_an_injected_slowdown_fails(server: Server) -> None:
    code, said = server.build()
    assert code == 0, said
    assert agents(server) == []
    case, became = outcome(server.workspace)
    assert (case.attrib["classname"], case.attrib["name"], became) == ("chain.board", "given.latency.median", "passed")
    conv_chain(server.workspace / "model.onnx", SLOWER)
    code, said = server.build()
    assert code == 1, said
    case, became = outcome(server.workspace)
    assert became == "failure"
    message = case[0].attrib["message"]
    assert re.search(
        r"got worse: .* ms → .* ms, \+\d+\.\d % \[\+.*\], where \+50 % is allowed, against baseline 'release' \(run chain/",
        message,
    )
    reports = {path.name for path in (server.workspace / "reports").iterdir()}
    assert reports >= {
        "junit.xml",
        "index.html",
        "report.css",
        "summary.md",
        "annotations.txt",
        "benchmark.json",
        "run.json",
        "journal.jsonl",
    }
    assert "<style" not in (server.workspace / "reports" / "index.html").read_text()
    assert agents(server) == []
    # A key that can't be loaded is no slower model, and the last build's report goes.
    key = server.workspace / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", key], check=True)
    server.environment["BOARD_KEY"] = str(key)
    code, said = server.build()
    assert code == 69, said
    assert f"ci/stage.sh: the gate did not begin: BOARD_KEY={key} has a passphrase" in said
    assert list((server.workspace / "reports").iterdir()) == []
    # The boards' key without its last newline, and with the line ends of Windows, is mended.
    text = Path(server.key).read_bytes()
    key.write_bytes(text.rstrip().replace(b"\n", b"\r\n"))
    # A gate that never began has no report, and least of all the last one's.
    server.environment["BASELINE"] = "absent"
    code, said = server.build()
    assert code == 2, said
    assert f"BOARD_KEY={key} was damaged when it was copied (line ends, blanks or other text around it), and was repaired" in said
    assert "of this build made no run" in said
    assert agents(server) == []
    assert list((server.workspace / "reports").iterdir()) == []


@pytest.mark.faults
@pytest.mark.ssh
@pytest.mark.slow
def test_an_aborted_stage_frees_its_board_and_leaves_a_report(server: Server) -> None:
    _, gate, report = steps()
    process = server.start(gate.replace('--device "$BOARD"', '--device "$BOARD" --rounds 500 --max-regression 0.01'))
    deadline = time.monotonic() + 60
    while '"event":"round"' not in "".join(path.read_text() for path in server.workspace.glob("results/*/*/journal.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    # Jenkins signals every process that the step began.
    os.killpg(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode != 0, out + err
    code, said = server.run(report)
    assert code == 0, said
    code, said = server.run(gate)
    assert code == 0, said
