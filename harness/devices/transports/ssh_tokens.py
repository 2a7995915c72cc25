"""What ssh replaces in the values of ssh_config: ``%h`` and the like, ``${VARIABLE}``, ``~`` and ``~user``."""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from harness.devices.transports.ssh_match import BadLineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TOKEN = re.compile(r"%(.?)", re.DOTALL)
TOKEN_OR_VARIABLE = re.compile(r"\$\{([^}]*)(\}?)|%(.?)", re.DOTALL)


def local_user() -> str:
    """The name of this machine's user, as ssh finds it: passwd's; without an entry there, what the environment says.

    Raises:
        BadLineError: if nothing tells it.
    """
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        named = next((name for key in ("LOGNAME", "USER", "LNAME", "USERNAME") if (name := os.environ.get(key))), None)
    if named is None:
        message = (
            f"this machine has no name for the user {os.getuid()}: set user in devices.toml, or the environment variable USER"
        )
        raise BadLineError(message)
    return named


def home() -> str | None:
    """The user's home: HOME, else passwd's; None if nothing tells it."""
    try:
        return os.environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return None


def tilde(value: str) -> str:
    """Replace a leading ``~`` or ``~user``.

    Raises:
        BadLineError: if there is no such user, or no home.
    """
    if not value.startswith("~"):
        return value
    name, slash, rest = value[1:].partition("/")
    try:
        folder = pwd.getpwnam(name).pw_dir if name else home()
    except (KeyError, ValueError):
        message = f"'{value}': this machine has no user '{name}'"
        raise BadLineError(message) from None
    if folder is None:
        message = f"'{value}': this machine's user has no home: set HOME"
        raise BadLineError(message)
    return f"{folder.rstrip('/')}/{rest}" if slash else folder


def percent(value: str, tokens: Mapping[str, Callable[[], str]]) -> str:
    """Replace tokens; each is asked for only if it is there.

    Raises:
        BadLineError: if there is no such token.
    """
    return TOKEN.sub(lambda found: _token(value, found[1], tokens), value)


def percent_and_environment(value: str, tokens: Mapping[str, Callable[[], str]]) -> str:
    """Replace tokens and ``${VARIABLE}``.

    Raises:
        BadLineError: if there is no such token or variable.
    """

    def replaced(found: re.Match[str]) -> str:
        if found[3] is not None:
            return _token(value, found[3], tokens)
        if not found[2] or not found[1]:
            message = f"'{value}': write a variable as ${{NAME}}"
            raise BadLineError(message)
        try:
            return os.environ[found[1]]
        except (KeyError, ValueError):
            message = f"'{value}': the environment variable {found[1]} is not set"
            raise BadLineError(message) from None

    return TOKEN_OR_VARIABLE.sub(replaced, value)


def _token(value: str, letter: str, tokens: Mapping[str, Callable[[], str]]) -> str:
    if letter == "%":
        return "%"
    if letter not in tokens:
        message = f"'{value}': unknown token %{letter}"
        raise BadLineError(message)
    return tokens[letter]()


def tokens(host: str, port: int, user: Callable[[], str], original: str, key_alias: str | None) -> dict[str, Callable[[], str]]:
    """What the tokens of most settings stand for."""
    name = socket.gethostname

    def home_or_fault() -> str:
        return tilde("~")

    return {
        "C": lambda: hashlib.sha1(
            f"{name()}{host}{port}{user()}".encode(errors="surrogateescape"), usedforsecurity=False
        ).hexdigest(),
        "L": lambda: name().partition(".")[0],
        "d": home_or_fault,
        "h": lambda: host,
        "i": lambda: str(os.getuid()),
        "k": lambda: key_alias or original,
        "l": name,
        "n": lambda: original,
        "p": lambda: str(port),
        "r": user,
        "u": local_user,
    }


def path(value: str, tokens: Mapping[str, Callable[[], str]]) -> Path:
    """A file that a setting names.

    Raises:
        BadLineError: if it can't be followed.
    """
    return Path(percent_and_environment(tilde(value), tokens))
