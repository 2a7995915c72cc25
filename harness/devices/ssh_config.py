"""The user's ssh_config → :class:`Route`: where an alias leads, and through what.

OpenSSH's rules, as far as paramiko reads them, and ``Include``, which it does not. What is named here counts; the rest of the file does not.
"""

from __future__ import annotations

import getpass
import io
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paramiko.config import SSH_PORT, SSHConfig, SSHConfigDict
from paramiko.ssh_exception import CouldNotCanonicalize, SSHException

from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

SYSTEM = Path("/etc/ssh/ssh_config")
SYSTEM_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"
DEFAULT_IDENTITIES = tuple(f"~/.ssh/id_{kind}" for kind in ("rsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk", "xmss", "dsa"))
USER_KNOWN_HOSTS = "~/.ssh/known_hosts ~/.ssh/known_hosts2"
MOST_INCLUDES = 16
SETTING = re.compile(r"\s*(\w+)(?:\s*=\s*|\s+)(.+)")


@dataclass(frozen=True)
class Route:
    """How to reach one host.

    Attributes:
        host: the name or address to connect to.
        user: None means the user of this machine.
        identities: keys to log in with, in ssh's order, also those that are not there: a public file (``.pub``) may be; without any in
            the files, those of ssh's default ones that are there.
        identities_given: whether the files name them.
        certificate_files: certificates to log in with.
        only: whether other keys may not be tried.
        identity_agent: where the SSH agent listens, as IdentityAgent says it; None is ``SSH_AUTH_SOCK``.
        jump: the hosts to go through, the first one first, as ProxyJump writes them.
        command: what to talk through instead of a socket.
        key_name: what known_hosts calls it.
        known_hosts: files of known host keys; those that are not there are left out.
        strict: what StrictHostKeyChecking says.
        family: what AddressFamily says: any, inet or inet6.
        source: what BindAddress says: the address of this machine to connect from.
    """

    host: str
    port: int
    user: str | None
    identities: tuple[Path, ...]
    identities_given: bool
    certificate_files: tuple[Path, ...]
    only: bool
    identity_agent: str | None
    jump: tuple[str, ...]
    command: str | None
    key_name: str
    known_hosts: tuple[Path, ...]
    strict: str
    family: str = "any"
    source: str | None = None


def split(spec: str) -> tuple[str | None, str, int | None]:
    """Take ``[USER@]HOST[:PORT]`` apart, also as ``ssh://…`` and with an IPv6 address in brackets.

    Returns:
        User, host, port; None for what is not said.

    Raises:
        UsageError: if it is none.
    """
    user, _, rest = spec.strip().removeprefix("ssh://").rstrip("/").rpartition("@")
    host, port = rest, ""
    if rest.startswith("["):
        host, _, port = rest[1:].partition("]")
        port = port.removeprefix(":")
    elif rest.count(":") == 1:
        host, _, port = rest.partition(":")
    if not host or re.search(r"[\s\x00-\x1f]", spec.strip()) or (port and not re.fullmatch(r"\d{1,5}", port)):
        message = f"'{spec}' is no host: write [USER@]HOST[:PORT], or an alias of ~/.ssh/config"
        raise UsageError(message)
    return user or None, host, int(port) if port else None


def route(spec: str, user: str | None = None, port: int | None = None) -> Route:
    """Look a host up.

    Args:
        spec: an alias, a name or an address; with user and port as in :func:`split`.
        user: wins over what the files say.
        port: the same.

    Raises:
        UsageError: if a file can't be read or says something that it can't say.
    """
    named, alias, numbered = split(spec)
    if user is not None and re.search(r"[\x00-\x1f]", user):
        message = f"{user!r} is no user's name"
        raise UsageError(message)
    found = _lookup(alias, user or named, port or numbered)
    host, login = found["hostname"], found.get("user")
    try:
        number = int(found.get("port", SSH_PORT))
    except ValueError:
        message = f"~/.ssh/config: the Port of '{alias}' is no number: {found['port']}"
        raise UsageError(message) from None
    key_name = found.get("hostkeyalias") or (host if number == SSH_PORT else f"[{host}]:{number}")
    tokens = {"%d": str(Path.home()), "%h": host, "%p": str(number), "%n": alias, "%k": found.get("hostkeyalias", alias)}
    tokens |= {"%r": login or getpass.getuser(), "%u": getpass.getuser()}
    jump, command = _through(found)
    names = f"{found.get('userknownhostsfile', USER_KNOWN_HOSTS)} {found.get('globalknownhostsfile', SYSTEM_KNOWN_HOSTS)}"
    return Route(
        host=host,
        port=number,
        user=login,
        identities=tuple(_identities(found.get("identityfile"), tokens)),
        identities_given="identityfile" in found,
        certificate_files=tuple(
            file for name in _several(found.get("certificatefile")) if (file := _path(name, tokens)).is_file()
        ),
        only=found.get("identitiesonly", "no").lower() == "yes",
        identity_agent=found.get("identityagent"),
        jump=jump,
        command=command and command.replace("%n", alias),
        key_name=key_name,
        known_hosts=tuple(file for name in _words(names) if name != "none" and (file := _path(name, tokens)).is_file()),
        strict=found.get("stricthostkeychecking", "ask").lower(),
        family=found.get("addressfamily", "any").lower(),
        source=found.get("bindaddress"),
    )


def _through(found: SSHConfigDict) -> tuple[tuple[str, ...], str | None]:
    """The hops or the command to go through; the one that the files name first counts, and 'none' is none."""
    for key, value in found.items():
        if key == "proxyjump" and value:
            hops = () if value.lower() == "none" else tuple(hop.strip() for hop in value.split(","))
            return hops, None
        if key == "proxycommand":
            return (), value
    return (), None


def _lookup(alias: str, user: str | None, port: int | None) -> SSHConfigDict:
    """What the files say of an alias; user and port, where they are given, come first, so they win and ``Match`` sees them."""
    config = SSHConfig()
    given = ["Host *", *([f"User {user}"] if user else []), *([f"Port {port}"] if port else [])]
    config.parse(io.StringIO("\n".join(given)))
    for path in (Path("~/.ssh/config").expanduser(), SYSTEM):
        try:
            if path.is_file():
                config.parse(io.StringIO("\n".join(_lines(path, path.parent))))
        except (OSError, UnicodeDecodeError, ValueError, SSHException) as exc:
            message = f"{path}: can't be read: {exc}"
            raise UsageError(message) from exc
    try:
        return config.lookup(alias)
    except (ValueError, KeyError, SSHException, CouldNotCanonicalize) as exc:
        message = f"~/.ssh/config: what it says of '{alias}' can't be followed: {exc}"
        raise UsageError(message) from exc


def _lines(path: Path, folder: Path, block: str = "Host *", depth: int = 0) -> Iterator[str]:
    """The lines of a file, those it includes in their places.

    Args:
        path: the file.
        folder: where relative names of included files begin.
        block: the ``Host`` or ``Match`` line that it is included under.
        depth: how many files include it.
    """
    if depth > MOST_INCLUDES:
        message = f"more than {MOST_INCLUDES} files include each other"
        raise ValueError(message)
    yield block
    for line in path.read_text(encoding="utf-8").splitlines():
        setting = SETTING.match(line)
        key = setting[1].lower() if setting else ""
        if key in {"host", "match"}:
            block = line
        if setting is None or key != "include":
            yield line
            continue
        for name in shlex.split(setting[2]):
            where = Path(name).expanduser()
            root = Path("/") if where.is_absolute() else folder
            for included in sorted(root.glob(str(where.relative_to("/") if where.is_absolute() else where))):
                yield from _lines(included, folder, block, depth + 1)
        yield block


def _words(value: str) -> list[str]:
    """Split a list of file names, which may be quoted."""
    try:
        return shlex.split(value)
    except ValueError:
        return value.split()


def _path(name: str, tokens: dict[str, str]) -> Path:
    """A file that a setting names."""
    return Path(re.sub("%[a-z]", lambda token: tokens.get(token[0], token[0]), name)).expanduser()


def _identities(names: str | list[str] | None, tokens: dict[str, str]) -> Iterator[Path]:
    """The keys that are named, also those that are not there, or else the default ones that are."""
    if names is not None:
        yield from (_path(name, tokens) for name in _several(names) if name.lower() != "none")
        return
    yield from (file for name in DEFAULT_IDENTITIES if _is_key(file := _path(name, tokens)))


def _several(value: str | list[str] | None) -> list[str]:
    """Paramiko gives the first of them alone."""
    return [value] if isinstance(value, str) else value or []


def _is_key(file: Path) -> bool:
    """Whether a key is there, or its public part alone: an agent may hold the rest."""
    return file.is_file() or file.with_name(f"{file.name}.pub").is_file()
