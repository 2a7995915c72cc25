"""What must not get out: secrets into files and outputs, a board's words to the terminal as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.sshd import SshServer

pytestmark = [pytest.mark.ssh, pytest.mark.slow]

PASSWORD = "correct horse battery staple"
OBEYED = "\x1b]0;owned\x07\x1b[2J\x9b"
FACTS = {"event": "facts", "arch": "x86_64", "cores": 4, "python": "3.11", "onnxruntime": {"version": "1.31.1", "providers": []}}


def contents(*folders: Path) -> bytes:
    """All that is in some folders."""
    return b"\n".join(path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file())


@pytest.mark.long
def test_no_secret_is_in_a_runs_folder_its_output_or_the_boards_store(
    harness: Command, study: Path, sshd: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOARD_PASSWORD", PASSWORD)
    Path("devices.toml").write_text(sshd.entry("board") + sshd.entry("shut", identity_file="", password_env="BOARD_PASSWORD"))
    done = harness("run", str(study), "--device", "board", "--device", "shut", "--rounds", "1", "--json")
    assert done.code == 3, done.err
    assert "refused the login" in done.err
    assert "the password in BOARD_PASSWORD (not sent: the server takes no passwords)" in done.err
    written = contents(Path("results"), tmp_path / "store", sshd.store) + done.out.encode() + done.err.encode()
    assert b"BOARD_PASSWORD" in written, "its name is no secret"
    key = sshd.identity.read_text().splitlines()[2]
    for secret in (PASSWORD, key):
        assert secret.encode() not in written


@pytest.mark.parametrize("where", ["error", "fact", "log"])
@pytest.mark.parametrize("words", [["devices"], ["device", "probe", "board"], ["run", "tiny", "--device", "board"]])
def test_a_board_can_not_write_to_the_terminal(
    harness: Command, study: Path, sshd: SshServer, where: str, words: list[str]
) -> None:
    assert study.exists()
    said = {"error": {"event": "error", "message": OBEYED}, "fact": {**FACTS, "cpu_model": OBEYED}, "log": OBEYED}[where]
    python = sshd.folder / "evil"
    out = "stderr" if where == "log" else "stdout"
    line = said if isinstance(said, str) else json.dumps(said)
    # It answers as a Python that has started, and then says what it likes.
    started = "print('\\n' + sys.argv[3].partition('.')[2][::-1], flush=True)"
    python.write_text(f"#!{sshd.python}\nimport sys\n{started}\nprint({line!r}, file=sys.{out}, flush=True)\nsys.stdin.read(1)\n")
    python.chmod(0o755)
    Path("devices.toml").write_text(sshd.entry("board", python=str(python)))
    done = harness(*words)
    assert "owned" in done.out + done.err
    assert not set(done.out + done.err) & set("\x1b\x07\x9b")
