"""Starts a Python on a device, waits for its first line before anything is sent to it, and explains why none came.

SSH hands a command to the account's shell, which reads the account's login files first. They may print, wait for input, exit or start another
shell that knows nothing of the command. A program that is sent before Python has answered would be read by that shell, as commands.
"""

from __future__ import annotations

import re
import secrets
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.devices.transports.silence import silence
from harness.devices.transports.transport import SilenceError
from harness.errors import RunnerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.devices.device import Device
    from harness.devices.transports.transport import Channel

# Isolated and without site: no file or PYTHON variable of the account takes part (runners/PROTOCOL.md).
ISOLATED = "-ISc"
# Takes LENGTH.TOKEN, says TOKEN backwards on a line of its own (what a login file printed may have no end; an echo of the command is not the answer),
# and runs the program that comes on its standard input. Older Pythons can read this much.
BOOT = (
    "import sys;w=sys.argv.pop(1).split('.');sys.version_info<(3,9)and sys.exit('it is Python %d.%d'%sys.version_info[:2]);"
    "sys.stdout.write(chr(10)+w[1][::-1]+chr(10));sys.stdout.flush();n=int(w[0]);p=sys.stdin and sys.stdin.buffer.read(n) or b'';"
    "len(p)<n and sys.exit('its standard input ended early: do login files redirect it?');exec(compile(p,'agent.py','exec'))"
)
# A small board reads Python from a slow card, and a login file may take its time.
PATIENCE = 3
MOST_LINES = 1000
SHOWN_LINES, SHOWN = 5, 300
NEWER = "Python 3.9 or newer is needed"
LOGIN_FILES = "~/.bashrc, ~/.profile, ~/.zshenv, ~/.config/fish/config.fish, ~/.cshrc"


def command(python: str, program: bytes, words: Sequence[str]) -> list[str]:
    """The command that starts a Python, which reads this program from its standard input and runs it with these arguments."""
    return [python, ISOLATED, BOOT, f"{len(program)}.{secrets.token_hex(8)}", *words]


def first_line(started: Sequence[str]) -> bytes:
    """The line that a Python prints once it has started.

    Args:
        started: what :func:`command` gave.
    """
    return started[3].partition(".")[2][::-1].encode()


def wait(channel: Channel, expected: bytes, program: str, device: Device, step: str) -> None:
    """Wait for the first line of a program that was started; lines before it are ignored.

    Args:
        channel: that of the command.
        expected: the line, as :func:`first_line` gives it.
        program: what was started, for the error.
        device: of whom.
        step: for the error.

    Raises:
        DeviceError: if it says none in three times ``connect_time``, or ends; or if the connection is lost.
    """
    patience = PATIENCE * device.connect_time if device.emulated is None else silence(device)
    deadline = time.monotonic() + patience
    said: list[bytes] = []
    late = flooded = False
    lines = channel.lines()
    try:
        for number in range(MOST_LINES + 1):
            channel.patience(max(0.0, deadline - time.monotonic()))
            line = next(lines, None)
            flooded = line is not None and number == MOST_LINES
            if line is None or flooded:
                break
            if line.strip() == expected:
                channel.patience(None)
                return
            said = [*said[1 - SHOWN_LINES :], line[:SHOWN]]
    except SilenceError as exc:
        late = True
        said.append(exc.unfinished[-SHOWN:])
    log = channel.close()
    heard = Heard(_text(said), log, channel.status, flooded)
    raise RunnerError(device.name, step, why(heard, device, program, patience if late else None))


@dataclass(frozen=True)
class Heard:
    """What came in place of Python's first line.

    Attributes:
        out: the last lines of standard output.
        log: the end of standard error.
        status: the exit status; None if it is not known.
        flooded: whether it was given up because it said too much.
    """

    out: str
    log: str
    status: int | None
    flooded: bool = False

    @property
    def last(self) -> str:
        """What was said last, in quotation marks, or nothing."""
        for text in (self.log, self.out):
            if lines := [line.strip() for line in text.splitlines() if line.strip()]:
                return f'it said "{lines[-1][:SHOWN]}"'
        return "it said nothing"


# What the shell, the server or the loader says, what it means, and the next step; {python}, {name} and the pattern's group are filled in.
SET_PYTHON = 'set python = "…" for [{name}] in devices.toml to a Python on the device'
MEANINGS = (
    (r"it is (Python \d+\.\d+)", f"{{python}} there is {{0}}, and {NEWER}: install it, or {SET_PYTHON}"),
    (
        r"[Uu]nknown option:? -*(?:I|ISc)\b",
        f"{{python}} there is older than Python 3.4, and {NEWER}: install it, or {SET_PYTHON}",
    ),
    (
        r"account is (?:currently )?not available|\bnologin\b",
        "the account has no shell that runs commands (nologin): give it one there (as root: chsh -s /bin/sh USER), or set user for [{name}] to another",
    ),
    (
        r"(?i)sftp connections only|only sftp|sftp only",
        "the account may only transfer files (SFTP): allow it to run commands (ForceCommand in the server's sshd_config), or set user for [{name}] to another",
    ),
    (
        r"(?i)password (?:has )?expired|password change required|required to change your password|account has expired",
        "the account's password has expired: log in once on a terminal and change it (ssh USER@HOST), or let it never expire (as root: chage -M -1 USER)",
    ),
    (
        r"(?m): restricted(?:: |\s*$)",
        "the account's shell is restricted and runs no program by its path: give the account another shell (as root: chsh -s /bin/sh USER), or set python for [{name}] in devices.toml to a name in its PATH",
    ),
    (
        r"shared object file: (?:Error 24|Too many open files)",
        "a limit of the account is too low for {python}: raise 'ulimit -n' there (a login file, or /etc/security/limits.conf)",
    ),
    (
        r"error while loading shared libraries: ([^\s:]+)",
        f"{{python}} there lacks the library {{0}}: install it, or {SET_PYTHON}",
    ),
    (
        r"(GLIBC_[\d.]+)'? not found",
        f"{{python}} there was built for a newer C library ({{0}}): install the system's own Python, or {SET_PYTHON}",
    ),
    (
        r"(?i)exec format error|cannot execute binary file|wrong architecture",
        f"{{python}} there is built for another kind of processor, or is not a program: {SET_PYTHON}",
    ),
    (
        r"Fatal Python error|init_fs_encoding|No module named '?encodings|Could not find platform",
        f"{{python}} there can't find its own standard library: install Python again, or {SET_PYTHON}",
    ),
    (
        r"is not recognized as an internal or external command",
        "the account's shell is a Windows shell, but the harness measures only Linux systems: set host for [{name}] to a Linux device",
    ),
)
NOT_EXECUTABLE, NOT_FOUND = 126, 127
# fish and csh have exit codes and words of their own.
NO_PERMISSION = re.compile(r"(?i)permission denied|not executable|is a directory|command cannot be executed")
NOWHERE = re.compile(r"(?i)not found|no such file|unknown command")


def why(heard: Heard, device: Device, python: str, waited: float | None) -> str:
    """Explain why no Python started, and what to do.

    Args:
        heard: what came in its place.
        device: of whom.
        python: the one that was to start.
        waited: the seconds after which it was given up; None if it ended.
    """
    text = f"{heard.log}\n{heard.out}"
    name, set_python = device.name, SET_PYTHON.format(name=device.name)
    # What the shell says of this Python is the reason, whatever the account's greeting says before.
    of_python = "\n".join(line for line in text.splitlines() if python in line)
    telling = of_python if of_python and heard.status in (NOT_EXECUTABLE, NOT_FOUND) else text
    for pattern, meaning in MEANINGS:
        if found := re.search(pattern, telling):
            return f"{meaning.format(*found.groups(), python=python, name=name)} ({heard.last})"
    if missing := standard_module(text):
        return without_module(missing, python, name)
    if heard.flooded:
        return f"{python} did not start on the device: the account printed more than {MOST_LINES} lines first ({heard.last}); check the account's login files ({LOGIN_FILES})"
    # A login file may have failed at another program.
    if python in text and waited is None and (heard.status == NOT_EXECUTABLE or NO_PERMISSION.search(text)):
        return f"{python} may not be run there ({heard.last}): make it executable (its file system may be mounted noexec), or {set_python}"
    if python in text and waited is None and (heard.status == NOT_FOUND or NOWHERE.search(text)):
        return f"{python} did not start there ({heard.last}); {NEWER}: install it, or {set_python}"
    return _in_its_place(heard, device, python, waited)


def _in_its_place(heard: Heard, device: Device, python: str, waited: float | None) -> str:
    """Explain what ran instead of Python if no message says why."""
    ended = (
        f"the session ended with exit code {heard.status} before {python} started" if device.transport == "ssh" else "it ended"
    )
    how = ended if waited is None else f"{python} did not start within {waited:g} s"
    if device.transport == "local":
        return f"{python} did not start: {how} ({heard.last}): {SET_PYTHON.format(name=device.name)}"
    if waited is None and heard.status and not heard.log and not heard.out.strip():
        return (
            f"the account's shell ended at once (exit code {heard.status}, without output): it is /bin/false or a similar program, or a login file exits "
            f"({LOGIN_FILES}): give the account a shell that runs commands (as root: chsh -s /bin/sh USER), or set user for [{device.name}] to another"
        )
    does = "exits or starts another program" if waited is None else "starts another shell or waits for input"
    return (
        f"the account's login files do not run the command: {how} ({heard.last}). A file that its shell reads ({LOGIN_FILES}) {does}: let it do so only "
        "on a terminal, for example by '[ -t 0 ] || return' as its first line; or the server runs a command of its own for this account (ForceCommand, command=)"
    )


def standard_module(text: str) -> str | None:
    """The module of Python's own standard library that an error says is missing, or None."""
    found = re.search(r"(?:ModuleNotFoundError|ImportError): .*?[Nn]o module named '?([\w.]+)", text)
    top = found[1].partition(".")[0] if found else ""
    return top if top in sys.stdlib_module_names else None


def without_module(module: str, python: str, name: str) -> str:
    """What to do with a Python that lacks a part of its standard library."""
    return (
        f"{python} there lacks the standard module {module}: it was built or packaged without it; install the complete Python on the device "
        f"(Debian: apt install python3; OpenWrt: opkg install python3; Yocto: python3-modules), or {SET_PYTHON.format(name=name)}"
    )


def _text(lines: Sequence[bytes]) -> str:
    return "".join(line.decode(errors="replace") for line in lines)
