"""Reads ssh_config files as OpenSSH's client reads them: which lines apply to a host, and what they say.

paramiko's reader takes criteria of ``Match`` that it does not know for true, so that another machine would be measured; it refuses lines
that ssh takes, and knows no ``Include``.
"""

from __future__ import annotations

import glob
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.devices.transports.ssh_match import WHITESPACE, BadLineError, Target, host_line, match_line, word
from harness.devices.transports.ssh_tokens import tilde
from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_INCLUDES = 16
# These have one value, the first that is said counts.
SINGLE = frozenset(
    [
        "hostname",
        "user",
        "port",
        "identitiesonly",
        "identityagent",
        "hostkeyalias",
        "addressfamily",
        "bindaddress",
        "stricthostkeychecking",
        "tag",
        "canonicalizehostname",
    ]
)
# The first line counts, with all its values.
LISTS = frozenset({"userknownhostsfile", "globalknownhostsfile"})
# Each line adds to those before.
GROWING = frozenset({"identityfile", "certificatefile"})
WAYS = frozenset({"proxyjump", "proxycommand"})
# Lines of which nothing is left but a comment say nothing.
COMMENTED = LISTS | {"host", "include"}
ESCAPED = "'\"\\"
_told: set[str] = set()
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Said:
    """What a line says.

    Attributes:
        values: its words.
        place: file and line.
    """

    values: tuple[str, ...]
    place: str


@dataclass
class Settings:
    """What applies to a host.

    Attributes:
        single: by keyword in small letters, what has one value or one list of values.
        growing: what adds up.
    """

    single: dict[str, Said] = field(default_factory=dict)
    growing: dict[str, list[Said]] = field(default_factory=dict)

    def text(self, key: str) -> str | None:
        """The value of a keyword; None if nothing says it."""
        return self.single[key].values[0] if key in self.single else None


def words(text: str) -> list[str]:
    """Split the values of a line; quotes and backslashes as in ssh, ``#`` at the start of a word begins a comment.

    Raises:
        BadLineError: if a quote is not closed.
    """
    found: list[str] = []
    at = 0
    while at < len(text):
        if text[at] in " \t":
            at += 1
            continue
        if text[at] == "#":
            break
        at = _one(text, at, found)
    return found


def _one(text: str, at: int, found: list[str]) -> int:
    """Add the word that begins here, and say where it ends."""
    letters: list[str] = []
    quote = ""
    while at < len(text):
        letter, following = text[at], text[at + 1 : at + 2]
        if letter == "\\" and following and (following in ESCAPED or (not quote and following == " ")):
            letters.append(following)
            at += 1
        elif not quote and letter in " \t":
            break
        elif not quote and letter in "'\"":
            quote = letter
        elif letter == quote:
            quote = ""
        else:
            letters.append(letter)
        at += 1
    if quote:
        message = f"the quote {quote} is not closed"
        raise BadLineError(message)
    found.append("".join(letters))
    return at


class Reader:
    """Collects what files say of one host.

    Args:
        settings: what was said before; the first value counts.
        target: what ``Match`` asks about.
        name: what ``Host`` lines are compared with.
    """

    def __init__(self, settings: Settings, target: Target, name: str) -> None:
        self.settings, self._target, self._name = settings, target, name

    def read(self, path: Path, folder: Path, *, user: bool) -> None:
        """Read a file; one that is not there says nothing.

        Args:
            path: the file.
            folder: where relative names of included files begin.
            user: whether it is the user's own: names of included files may begin with ``~``.

        Raises:
            UsageError: if it can't be read, or a line that applies to the host says what it can't say.
        """
        self._file(path, folder, user=user, depth=0)

    def _file(self, path: Path, folder: Path, *, user: bool, depth: int) -> None:
        if depth > MOST_INCLUDES:
            message = f"{path}: can't be read: more than {MOST_INCLUDES} files include each other"
            raise UsageError(message)
        active = True
        for number, line in _lines(path):
            place = f"{path}:{number}"
            try:
                active = self._line(line, place, folder, active=active, user=user, depth=depth)
            except BadLineError as exc:
                message = f"{place}: {exc}"
                raise UsageError(message) from exc

    def _line(self, line: str, place: str, folder: Path, *, active: bool, user: bool, depth: int) -> bool:
        """Take one line in, and say whether the lines after it apply."""
        key, rest = word(line)
        if key == "":
            key, rest = word(rest)
        if not key or key.startswith("#"):
            return active
        key, text = key.lower(), (rest or "").lstrip(WHITESPACE)
        if key in {"host", "match"}:
            values = self._values(key, text)
            if key == "host":
                return host_line(self._name, values)
            holds = match_line(text, self._target)
            self._tell(place)
            return holds
        if active and key == "include":
            self._include(self._values(key, text), folder, user=user, depth=depth)
        elif active and key in SINGLE | LISTS | GROWING | WAYS:
            self._take(key, text, place)
        return active

    def _values(self, key: str, text: str) -> list[str]:
        values = words(text)
        if text and not values and key in COMMENTED:
            return values
        if not values or ("" in values and key != "match"):
            message = f"{key} needs a value"
            raise BadLineError(message)
        return values

    def _take(self, key: str, text: str, place: str) -> None:
        """Keep what a line says, if it is the first to say it."""
        single = self.settings.single
        values = self._values(key, text)
        if key in WAYS:
            # All of the line, with its quotes; of the two the first counts, but 'ProxyJump none' leaves room for a command.
            before = {name for name in WAYS & single.keys() if name != "proxyjump" or single[name].values[0].lower() != "none"}
            if not before and key not in single:
                said = text.lstrip(WHITESPACE + "=")
                single[key] = Said((said.partition("#")[0].rstrip() if key == "proxyjump" else said,), place)
            return
        if key in LISTS:
            if len(values) > 1 and "none" in (value.lower() for value in values):
                message = f"{key}: 'none' must stand alone"
                raise BadLineError(message)
            # For ssh, a line with nothing but a comment says nothing.
            if values:
                single.setdefault(key, Said(tuple(values), place))
            return
        if len(values) > 1:
            message = f"{key} takes one value: put quotes around the value, or remove '{values[1]}'"
            raise BadLineError(message)
        if key in SINGLE:
            single.setdefault(key, Said((values[0],), place))
        elif values[0] not in [said.values[0] for said in self.settings.growing.get(key, [])]:
            self.settings.growing.setdefault(key, []).append(Said((values[0],), place))

    def _include(self, names: list[str], folder: Path, *, user: bool, depth: int) -> None:
        for name in names:
            if name.startswith("~") and not user:
                message = f"Include {name}: the system's ssh_config can't include a file of a home folder; write an absolute path"
                raise BadLineError(message)
            try:
                pattern = str(folder / tilde(name))
            except BadLineError:
                # Nobody's home has no files, as any other pattern that matches nothing.
                continue
            # Path.glob takes no absolute pattern.
            for included in sorted(glob.glob(pattern)):  # noqa: PTH207
                self._file(Path(included), folder, user=user, depth=depth + 1)

    def _tell(self, place: str) -> None:
        """Warn of what can't be judged, once for each line."""
        for note in self._target.notes:
            if (text := f"{place}: {note}") not in _told:
                _told.add(text)
                _log.warning("warning: %s", text)
        self._target.notes.clear()


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers; whatever bytes they have, as ssh takes them.

    Raises:
        UsageError: if it is there and can't be read.
    """
    try:
        data = path.read_bytes() if path.is_file() else b""
    except (OSError, ValueError) as exc:
        message = f"{path}: can't be read: {getattr(exc, 'strerror', None) or exc}"
        raise UsageError(message) from exc
    for number, line in enumerate(data.split(b"\n"), 1):
        # For ssh, a NUL ends the line.
        text = line.partition(b"\0")[0].decode(errors="surrogateescape")
        yield number, text[:1] + text[1:].rstrip(WHITESPACE + "\f")
