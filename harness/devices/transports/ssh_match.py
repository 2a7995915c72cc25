"""Patterns of ssh_config, and the criteria of its ``Match`` lines, judged as OpenSSH's client judges them."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

EXEC_SECONDS = 10.0
# Programs of this project run commands, so this is what ssh would say of them.
SESSION_TYPE = "exec"
# Those of newer versions of ssh that nothing here can judge.
UNKNOWABLE = frozenset({"localnetwork", "command", "version"})
WHITESPACE = " \t\r\n"


class BadLineError(Exception):
    """A line that ssh refuses; says why."""


@dataclass
class Target:
    """What ``Match`` lines ask about.

    Attributes:
        original: the name that was asked for.
        host: HostName as it is known by now.
        user: the user to log in as; asked only when a line needs it.
        local_user: the user of this machine, likewise.
        tag: what ``Tag`` says.
        final: whether the files are read for the second time.
        expand: replaces the tokens of a command.
        wants_final: set when a line asks for a second reading.
        notes: what can't be judged.
    """

    original: str
    host: Callable[[], str]
    user: Callable[[], str]
    local_user: Callable[[], str]
    tag: Callable[[], str]
    expand: Callable[[str], str]
    final: bool = False
    wants_final: bool = False
    notes: list[str] = field(default_factory=list)


def matches(text: str, pattern: str) -> bool:
    """Whether a text matches a pattern of ``*`` and ``?``; nothing else is special."""
    at = start = 0
    star = -1
    here = 0
    while at < len(text):
        if here < len(pattern) and pattern[here] == "*":
            star, start, here = here, at, here + 1
        elif here < len(pattern) and pattern[here] in {"?", text[at]}:
            at, here = at + 1, here + 1
        elif star >= 0:
            start += 1
            at, here = start, star + 1
        else:
            return False
    return not pattern[here:].strip("*")


def matches_list(text: str, patterns: str) -> bool:
    """Whether a text matches one of the patterns between commas and none of those with ``!``."""
    found = False
    for pattern in patterns.split(","):
        if matches(text, pattern.removeprefix("!")):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def host_line(name: str, patterns: list[str]) -> bool:
    """Whether a ``Host`` line applies.

    Raises:
        BadLineError: if a pattern is empty.
    """
    found = False
    for pattern in patterns:
        if not pattern:
            message = "Host has an empty pattern"
            raise BadLineError(message)
        if matches(name, pattern.removeprefix("!")):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def word(text: str | None) -> tuple[str | None, str | None]:
    """Take the next word off a line, as ssh does: an ``=`` or white space ends it, a double quote begins or ends one.

    Returns:
        The word, None at the end or if a quote is not closed; what is left, None at the end.
    """
    if text is None:
        return None, None
    end = next((at for at, letter in enumerate(text) if letter in WHITESPACE + '"='), None)
    if end is None:
        return text, None
    if text[end] == '"':
        close = text.find('"', end + 1)
        if close < 0:
            return None, None
        return text[:end] + text[end + 1 : close], text[close + 1 :].lstrip(WHITESPACE)
    rest = text[end + 1 :].lstrip(WHITESPACE)
    if text[end] != "=" and rest.startswith("="):
        rest = rest[1:].lstrip(WHITESPACE)
    return text[:end], rest


def match_line(text: str, target: Target) -> bool:
    """Whether a ``Match`` line applies; a criterion that can't be judged does not match, negated or not.

    Raises:
        BadLineError: if ssh would refuse the line.
    """
    rest: str | None = text
    result, count = True, 0
    while True:
        name, rest = word(rest)
        if not name or name.startswith("#"):
            break
        negated, criterion = name.startswith("!"), name.removeprefix("!").lower()
        if criterion == "all":
            following, _ = word(rest)
            if count > 1 or (following and not following.startswith("#")):
                message = "'all' can't be combined with other criteria of Match"
                raise BadLineError(message)
            return result and not negated
        count += 1
        if criterion in {"canonical", "final"}:
            target.wants_final |= criterion == "final"
            result &= target.final != negated
            continue
        value, rest = word(rest)
        if not value or value.startswith("#"):
            message = f"Match {criterion} needs a value"
            raise BadLineError(message)
        held = _judge(criterion, value, target, asked=result)
        result &= held is not None and held != negated
    if count == 0:
        message = "Match needs a criterion"
        raise BadLineError(message)
    return result


def _judge(criterion: str, value: str, target: Target, *, asked: bool) -> bool | None:
    """Whether one criterion holds; None if nobody can tell."""
    if criterion == "host":
        return matches_list(target.host().lower(), value.lower())
    if criterion == "originalhost":
        return matches_list(target.original.lower(), value.lower())
    if criterion == "sessiontype":
        return matches_list(SESSION_TYPE, value.lower())
    texts = {"user": target.user, "localuser": target.local_user, "tagged": target.tag}
    if criterion in texts:
        return matches_list(texts[criterion](), value)
    if criterion == "exec":
        # As in ssh, none is run whose result can't count.
        return asked and _succeeds(target.expand(value))
    known = "can't be judged here" if criterion in UNKNOWABLE else "is unknown"
    target.notes.append(f"Match {criterion} {known}: the harness ignores the settings below it")
    return None


def _succeeds(command: str) -> bool:
    """Run a command of ``Match exec``.

    Raises:
        BadLineError: if it can't be run or does not end in time.
    """
    shell = os.environ.get("SHELL") or "/bin/sh"
    try:
        with subprocess.Popen(
            [shell, "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            try:
                return process.wait(EXEC_SECONDS) == 0
            except BaseException:
                # Also what it started.
                os.killpg(process.pid, 9)
                raise
    except subprocess.TimeoutExpired as exc:
        message = f"Match exec '{command}' did not end within {EXEC_SECONDS:g} s: make the command faster, or remove the line"
        raise BadLineError(message) from exc
    except (OSError, ValueError) as exc:
        message = f"Match exec '{command}': {exc}"
        raise BadLineError(message) from exc
