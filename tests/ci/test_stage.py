"""ci/stage.sh: what its steps make of a tool, a key and a workspace that are not as they should be."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

# Stands for the tool where only the handling of its exit codes counts.
TOOL = """\
#!/bin/sh
case $1 in
    --version) echo "onnx-quant-harness 1"; exit "${VERSION_CODE:-0}" ;;
    check)
        if [ -n "${RUN:-}" ]; then mkdir -p "$RUN"; echo "{}" > "$RUN/run.json"; echo "$RUN" > "$HARNESS_RUN_FILE"; fi
        [ -z "${WAITS:-}" ] || { trap 'exit 130' TERM; echo began; while :; do sleep 0.05; done; }
        [ -z "${DIES:-}" ] || kill -9 $$
        exit "$CODE" ;;
    show) case $* in *--json*) echo "{\\"exit\\": $RECORDED}" ;; *) echo "$2" ;; esac ;;
esac
"""


class Stage:
    """A workspace with ci/ and a tool."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "ci", folder / "ci")
        self.tool = folder / ".harness-venv" / "bin" / "harness"
        self.tool.parent.mkdir(parents=True)
        self.tool.write_text(TOOL)
        self.tool.chmod(0o755)
        (self.tool.parent / "python").symlink_to(sys.executable)
        self.reports = folder / "reports"
        self.environment = {
            "PATH": "/usr/sbin:/usr/bin:/bin",
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "BUILD_TAG": "jenkins-1",
            "CODE": "0",
            "RECORDED": "0",
            "RUN": str(folder / "results" / "s" / "run-1"),
        }

    def run(self, *words: str, step: str = 'exec ci/stage.sh "$@"', **environment: str) -> tuple[int, str]:
        """A step to its end, and all that it printed."""
        done = subprocess.run(
            ["sh", "-xe", "-c", step, "sh", *words], cwd=self.folder, env={**self.environment, **environment}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False, start_new_session=True,
        )  # fmt: skip
        return done.returncode, done.stdout

    def gate(self, **environment: str) -> tuple[int, str]:
        return self.run("gate", "study.toml", "release", **environment)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    folder = tmp_path / "a work space"
    folder.mkdir()
    return Stage(folder)


def key(folder: Path, phrase: str = "") -> Path:
    """A new private key."""
    path = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", phrase, "-f", path], check=True)
    return path


@pytest.mark.parametrize("code", ["0", "1", "2", "3", "4", "70", "75", "130"])
def test_the_tool_s_codes_pass(stage: Stage, code: str) -> None:
    assert stage.gate(CODE=code, RECORDED=code)[0] == int(code)


@pytest.mark.parametrize(
    ("environment", "code", "words"),
    [
        ({"CODE": "1", "RUN": ""}, 69, "the gate did not begin: 'harness check' ended with exit code 1 and made no run"),
        ({"CODE": "0", "RUN": ""}, 69, "the gate did not begin: 'harness check' ended with exit code 0 and made no run"),
        ({"CODE": "1", "RECORDED": "0"}, 70, "the gate has no verdict: 'harness check' ended with exit code 1, but the record of its run"),
        ({"CODE": "1", "RECORDED": "3"}, 70, "has exit code 3"),
        ({"CODE": "0", "RECORDED": "1"}, 70, "has exit code 1"),
        ({"CODE": "1", "RECORDED": "broken"}, 70, "has exit code unknown"),
        ({"CODE": "127", "RUN": ""}, 69, "the gate did not begin"),
        ({"CODE": "17"}, 70, "ended with exit code 17"),
        ({"DIES": "yes"}, 70, "killed by signal 9"),
        ({"VERSION_CODE": "1"}, 69, "does not start (exit code 1)"),
    ],
)  # fmt: skip
def test_a_code_that_no_run_bears_out_is_no_verdict(stage: Stage, environment: dict[str, str], code: int, words: str) -> None:
    found, said = stage.gate(**environment)
    assert (found, words in said) == (code, True), said


def test_a_regression_of_another_run_proves_nothing(stage: Stage) -> None:
    assert stage.gate(CODE="1", RECORDED="1")[0] == 1
    assert stage.gate(CODE="1", RECORDED="1", RUN="")[0] == 69


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("#!/no/such/python\n", "does not start (exit code"),
        (f"#!{sys.executable}\nimport no_such_module\n", "No module named 'no_such_module'"),
        ("#!/bin/sh\necho 'backtester 0.3'\n", "belongs to another package than onnx-quant-harness; it says: backtester 0.3"),
        ("", ""),
    ],
)
def test_a_tool_that_does_not_start_is_no_slower_model(stage: Stage, script: str, words: str) -> None:
    stage.tool.write_text(script)
    if not script:
        stage.tool.unlink()
        words = "there is no .harness-venv/bin/harness; 'ci/stage.sh setup' installs it"
    code, said = stage.gate()
    assert (code, words in said) == (69, True), said


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "no last newline": lambda text: text.rstrip(b"\n"),
    "windows": lambda text: text.replace(b"\n", b"\r\n"),
    "both": lambda text: text.replace(b"\n", b"\r\n").rstrip(),
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "indented": lambda text: b"".join(b"    " + line for line in text.splitlines(keepends=True)),
    "one line": lambda text: text.replace(b"\n", b"\\n"),
    "blanks": lambda text: text.replace(b"\n", b" \n"),
    "spaces for line ends": lambda text: text.replace(b"\n", b" "),
    "no line ends": lambda text: text.replace(b"\n", b""),
    "old Macintosh": lambda text: text.replace(b"\n", b"\r"),
    "empty lines before it": lambda text: b"\n\n" + text,
    "a comment before it, a prompt behind it": lambda text: b"$ cat key\n" + text + b"$ ",
    "JSON": lambda text: json.dumps(text.decode()).encode(),
}


@pytest.mark.parametrize("form", ["file", "text"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_key_that_copying_damaged_is_mended_and_leaves_no_copy(stage: Stage, damage: str, form: str) -> None:
    path = key(stage.folder)
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    before = {each for each in stage.folder.rglob("*") if each.is_file()}
    code, said = stage.gate(BOARD_KEY=str(path) if form == "file" else path.read_bytes().decode())
    assert code == 0, said
    # What a variable lost at its end comes back without a word.
    assert "was repaired for this gate" in said or (form, damage) == ("text", "no last newline")
    secret = path.read_bytes().split(b"KEY-----")[1].strip()[60:90]
    assert not [each for each in stage.folder.rglob("*") if each.is_file() and each not in before and secret in each.read_bytes()]
    assert not list(stage.folder.glob("harness-gate.*"))


def test_a_trace_of_the_shell_shows_no_key(stage: Stage) -> None:
    text = key(stage.folder).read_text()
    words = ["sh", "-x", "ci/stage.sh", "gate", "study.toml", "base"]
    done = subprocess.run(
        words,
        cwd=stage.folder,
        env=stage.environment | {"BOARD_KEY": text},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "+ wait" in done.stderr  # the trace goes on after the key
    assert not [line for line in text.splitlines()[1:-1] if line in done.stderr + done.stdout]


def test_a_key_that_can_t_be_loaded_says_why_and_asks_nobody(stage: Stage) -> None:
    path = key(stage.folder, "secret")
    empty, garbage, ppk = stage.folder / "empty", stage.folder / "garbage", stage.folder / "k.ppk"
    empty.touch()
    garbage.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nbm9uZQ==\n-----END OPENSSH PRIVATE KEY-----\n")
    ppk.write_text("PuTTY-User-Key-File-3: ssh-ed25519\n")
    for each in (garbage, ppk):
        each.chmod(0o600)
    fifo = stage.folder / "fifo"
    os.mkfifo(fifo)
    cases = {
        str(path): "has a passphrase",
        path.read_text(): "BOARD_KEY has a passphrase",
        f"{path}.pub": "is not a private key",
        str(empty): "is empty",
        "": "BOARD_KEY is empty",
        str(garbage): "can't be loaded",
        str(ppk): "puttygen",
        str(stage.folder / "absent"): "no such file",
        str(fifo): "is not a file",
        str(stage.folder): "is not a file",
    }
    for value, words in cases.items():
        code, said = stage.gate(BOARD_KEY=value)
        assert (code, words in said) == (69, True), said
        assert "ci/stage.sh: the gate did not begin: BOARD_KEY" in said
    path.chmod(0o644)
    code, said = stage.gate(BOARD_KEY=str(path))
    assert (code, "can be read by other accounts" in said) == (69, True), said


def test_a_passphrase_is_not_asked_for_on_a_terminal(stage: Stage) -> None:
    path = key(stage.folder, "secret")
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover - the child
        os.chdir(stage.folder)
        os.execve("/bin/sh", ["sh", "ci/stage.sh", "gate", "s", "b"], {**stage.environment, "BOARD_KEY": str(path)})
    deadline = time.monotonic() + 60
    while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.05)
    if ended == (0, 0):
        os.kill(pid, signal.SIGKILL)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(ended[1]) == 69
    assert ended != (0, 0)


@pytest.mark.parametrize("lacking", ["ssh-agent", "ssh-add"])
def test_a_machine_without_openssh_says_so(stage: Stage, lacking: str) -> None:
    tools = stage.folder / "tools"
    tools.mkdir()
    for folder in ("/usr/bin", "/bin"):
        for path in Path(folder).iterdir():
            if path.name != lacking and not (tools / path.name).exists():
                (tools / path.name).symlink_to(path)
    code, said = stage.gate(BOARD_KEY=str(key(stage.folder)), PATH=str(tools))
    assert (code, f"{lacking} is not installed" in said) == (69, True), said


def test_closed_streams_a_reader_that_left_and_no_home_change_no_code(stage: Stage) -> None:
    for closed in (">&-", "2>&-", "<&-", ">&- 2>&- <&-", "> /dev/full 2>&1"):
        for told in ("0", "1", "3"):
            assert stage.run(step=f"exec ci/stage.sh gate s b {closed}", CODE=told, RECORDED=told)[0] == int(told), closed
    assert stage.run(step="exec ci/stage.sh gate s b >&- 2>&- <&-", BOARD_KEY="")[0] == 69
    # No home: a place in the workspace instead.
    code, said = (
        stage.run(step="unset HOME; exec setpriv --reuid 54321 --clear-groups ci/stage.sh gate s b")
        if os.getuid() == 0
        else (69, "")
    )
    assert code == 69, said
    if os.getuid() == 0:
        for path in (stage.folder, *stage.folder.rglob("*")):
            os.chown(path, 54321, 54321, follow_symlinks=False)
        for parent in stage.folder.parents[:-2]:
            parent.chmod(0o755)
        code, said = stage.run(
            step="unset HOME; exec setpriv --reuid 54321 --clear-groups ci/stage.sh gate s b", CODE="3", RECORDED="3"
        )
        assert code == 3, said
        assert "this account has no writable home folder" in said


def test_an_aborted_gate_ends_with_the_tool_s_own_code(stage: Stage) -> None:
    with subprocess.Popen(
        ["ci/stage.sh", "gate", "s", "b"], cwd=stage.folder, text=True, stdout=subprocess.PIPE,
        env={**stage.environment, "WAITS": "yes", "BOARD_KEY": str(key(stage.folder))},
    ) as process:  # fmt: skip
        assert process.stdout
        assert process.stdout.readline() == "began\n"
        process.terminate()
        assert process.wait(timeout=60) == 130
    assert not list(stage.folder.glob("harness-gate.*"))


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_report_is_of_this_build_alone(stage: Stage) -> None:
    assert stage.gate()[0] == 0
    assert stage.run("report")[0] == 0
    assert (stage.reports / "junit.xml").read_text() == f"{stage.environment['RUN']}\n"
    assert files(stage.reports) >= {"junit.xml", "index.html", "summary.md", "annotations.txt", "benchmark.json", "run.json"}
    assert stage.run("report")[0] == 0
    assert (stage.reports / "junit.xml").is_file()
    # Nothing but the report's step is reached in the next build; then the key can't be loaded; then there is no tool.
    for number, environment in enumerate(({}, {"BOARD_KEY": ""}, {"VERSION_CODE": "1"})):
        stage.environment["BUILD_TAG"] = f"jenkins-good-{number}"
        assert stage.gate()[0] == 0
        assert stage.run("report")[0] == 0
        assert (stage.reports / "junit.xml").is_file()
        stage.environment["BUILD_TAG"] = f"jenkins-bad-{number}"
        assert not environment or stage.gate(**environment)[0] == 69
        code, said = stage.run("report")
        assert (code, files(stage.reports)) == (0, set()), said
    # A set-up that fails in the next build has removed it already.
    stage.environment["BUILD_TAG"] = "jenkins-8"
    assert stage.gate()[0] == stage.run("report")[0] == 0
    assert (stage.reports / "junit.xml").is_file()
    stage.environment["BUILD_TAG"] = "jenkins-9"
    assert stage.run("setup", VERSION_CODE="1")[0] == 69
    assert not stage.reports.exists()


def test_where_nothing_tells_builds_apart_a_report_is_made_once(stage: Stage) -> None:
    del stage.environment["BUILD_TAG"]
    assert stage.gate()[0] == stage.run("report")[0] == 0
    assert (stage.reports / "junit.xml").is_file()
    assert stage.run("report")[0] == 0
    assert files(stage.reports) == set()


def test_two_gates_of_a_build_have_both_their_reports(stage: Stage) -> None:
    first, second = (str(stage.folder / "results" / name / "run") for name in ("one", "two\nlines"))
    assert stage.gate(RUN=first)[0] == stage.gate(RUN=second, CODE="1", RECORDED="1")[0] - 1 == 0
    code, said = stage.run("report")
    assert code == 0, said
    assert [path.read_text() for path in sorted(stage.reports.glob("*/junit.xml"))] == [f"{first}\n", f"{second}\n"]
    assert (stage.reports / "summary.md").read_text() == f"{first}\n{second}\n"
    assert (stage.reports / "index.html").read_text().count("<a href=") == 2


def test_a_report_that_can_t_be_removed_is_moved_aside_or_nothing_is_published(stage: Stage) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, which makes files of another account")
    for path in (stage.folder, *stage.folder.rglob("*")):
        os.chown(path, 54321, 54321, follow_symlinks=False)
    for parent in stage.folder.parents[:-2]:
        parent.chmod(0o755)
    old = stage.reports / "inner" / "junit.xml"
    old.parent.mkdir(parents=True)
    old.write_text("old")
    as_other = {"step": 'exec setpriv --reuid 54321 --clear-groups ci/stage.sh "$@"'}
    code, said = stage.run("gate", "s", "b", CODE="3", **as_other)
    assert code == 3, said
    assert "files of another account that can't be removed; it was moved to reports.stage-old." in said
    assert stage.run("report", **as_other)[0] == 0
    assert "old" not in (stage.reports / "junit.xml").read_text()
    # Neither removed nor moved: the workspace is another's.
    stage.folder.chmod(0o755)
    os.chown(stage.folder, 0, 0)
    for path in (stage.reports, *stage.reports.rglob("*")):
        os.chown(path, 0, 0)
    for words in (("gate", "s", "b"), ("report",), ("setup",)):
        code, said = stage.run(*words, BUILD_TAG="jenkins-2", **as_other)
        assert (code, "can be neither removed nor moved" in said) == (69, True), said


def test_a_folder_that_is_more_than_reports_is_never_emptied(stage: Stage) -> None:
    outside = stage.folder.parent / "outside"
    outside.mkdir()
    (outside / "junit.xml").write_text("old")
    for value in (".", "..", "/", str(stage.folder)):
        code, said = stage.gate(HARNESS_REPORTS=value)
        assert (code, "a folder that holds only reports" in said) == (69, True), said
    stage.reports.symlink_to(outside)
    assert stage.run("report")[0] == 0
    assert files(stage.reports) == set()
    assert files(outside) == {"junit.xml"}


def test_a_full_disk_is_no_slower_model(stage: Stage) -> None:
    small = stage.folder / "small"
    small.mkdir()
    if os.getuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", small], check=False).returncode:
        pytest.skip("needs root that may mount")
    try:
        subprocess.run(["dd", "if=/dev/zero", f"of={small / 'filler'}"], capture_output=True, check=False)
        for environment in ({"HARNESS_STATE": str(small / "state")}, {"HARNESS_RESULTS": str(small / "results")}):
            code, said = stage.gate(**environment)
            assert (code, "disk is full" in said) == (69, True), said
        subprocess.run(["mount", "-o", "remount,ro", small], check=True)
        code, said = stage.gate(HARNESS_RESULTS=str(small))
        assert (code, "read-only" in said) == (69, True), said
    finally:
        subprocess.run(["umount", small], check=True)
