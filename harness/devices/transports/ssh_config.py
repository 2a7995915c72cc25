"""The user's ssh_config → :class:`Route`: where an alias leads, and through what.

Files are read as OpenSSH reads them; where this differs, docs/devices.md says so. What is named here counts; the rest of a file does not.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from harness import paths
from harness.devices.transports import ssh_tokens
from harness.devices.transports.ssh_config_file import Reader, Said, Settings
from harness.devices.transports.ssh_match import BadLineError, Target
from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
SSH_PORT = 22
FLAGS = {"yes": "yes", "true": "yes", "no": "no", "false": "no"}
CHECKING = FLAGS | {"ask": "ask", "off": "off", "accept-new": "accept-new"}
FAMILIES = {"any": "any", "inet": "inet", "inet6": "inet6"}
CANONICALIZE = FLAGS | {"always": "always"}
USER_CONFIG = Path("~/.ssh/config")
SYSTEM = Path("/etc/ssh/ssh_config")
SYSTEM_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"
DEFAULT_IDENTITIES = tuple(f"~/.ssh/id_{kind}" for kind in ("rsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk", "xmss", "dsa"))
USER_KNOWN_HOSTS = "~/.ssh/known_hosts ~/.ssh/known_hosts2"


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
        known_hosts: files of known host keys; those that are not there are left out, but not those that can't be looked at.
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
    if port and not _is_port(port):
        message = f"'{spec}' is not a host: its port must be a number from 1 to 65535"
        raise UsageError(message)
    if not host or re.search(r"[\s\x00-\x1f]", spec.strip()):
        message = f"'{spec}' is not a host: write [USER@]HOST[:PORT], or an alias of ~/.ssh/config"
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
        message = f"{user!r} is not a user name"
        raise UsageError(message)
    found = _Lookup(alias, user or named, port or numbered)
    return found.route()


class _Lookup:
    """What the files say of an alias; user and port, where they are given, come first, so they win and ``Match`` sees them."""

    def __init__(self, alias: str, user: str | None, port: int | None) -> None:
        self._alias = alias
        self._said = Settings()
        given = {"user": user, "port": port}
        self._said.single |= {key: Said((str(value),), "devices.toml") for key, value in given.items() if value is not None}
        target = Target(alias, self._host, self._user, ssh_tokens.local_user, self._tag, self._expand)
        self._read(target, alias)
        host = _address(self._host())
        if target.wants_final or self._choice("canonicalizehostname", CANONICALIZE, "no") != "no":
            target.final = True
            self._said.single["hostname"] = Said((host.replace("%", "%%"),), "HostName")
            self._read(target, host)

    def route(self) -> Route:
        """Put it together."""
        host, port, alias = _address(self._host()), self._port(), self._said.text("hostkeyalias")
        tokens = ssh_tokens.tokens(host, port, self._user, self._alias, alias and alias.lower())
        jump, command = self._through(tokens)
        agent = self._said.text("identityagent")
        if agent is not None and not re.fullmatch(r"none|SSH_AUTH_SOCK|\$[^{].*", agent):
            agent = str(self._at("identityagent", lambda value: ssh_tokens.path(value, tokens)))
        return Route(
            host=host,
            port=port,
            user=self._said.text("user"),
            identities=tuple(self._identities(tokens)),
            identities_given="identityfile" in self._said.growing,
            certificate_files=tuple(file for file in self._files("certificatefile", tokens) if paths.is_file(file)),
            only=self._choice("identitiesonly", FLAGS, "no") == "yes",
            identity_agent=agent,
            jump=jump,
            command=command,
            key_name=alias.lower() if alias else (host if port == SSH_PORT else f"[{host}]:{port}"),
            known_hosts=tuple(file for file in self._known_hosts(tokens) if _may_be_read(file)),
            strict=self._choice("stricthostkeychecking", CHECKING, "ask"),
            family=self._choice("addressfamily", FAMILIES, "any"),
            source=self._said.text("bindaddress"),
        )

    def _read(self, target: Target, name: str) -> None:
        reader = Reader(self._said, target, name)
        home = ssh_tokens.home()
        if home is not None:
            reader.read(Path(ssh_tokens.tilde(str(USER_CONFIG))), Path(home) / ".ssh", user=True)
        reader.read(SYSTEM, SYSTEM.parent, user=False)

    def _at(self, key: str, follow: Callable[[str], T], said: Said | None = None) -> T:
        """Follow what a line says; a fault names the line."""
        said = said or self._said.single[key]
        try:
            return follow(said.values[0])
        except (BadLineError, ValueError) as exc:
            message = f"{said.place}: this line applies to '{self._alias}' and can't be used: {exc}"
            raise UsageError(message) from exc

    def _host(self) -> str:
        if "hostname" not in self._said.single:
            return self._alias.lower()
        host = self._at("hostname", lambda value: ssh_tokens.percent(value, {"h": lambda: self._alias}))
        return host.lower()

    def _port(self) -> int:
        return self._at("port", _port) if "port" in self._said.single else SSH_PORT

    def _user(self) -> str:
        return self._said.text("user") or ssh_tokens.local_user()

    def _tag(self) -> str:
        return self._said.text("tag") or ""

    def _expand(self, command: str) -> str:
        host = self._host()
        alias = self._said.text("hostkeyalias") or host
        return ssh_tokens.percent(command, ssh_tokens.tokens(host, self._port(), self._user, self._alias, alias))

    def _choice(self, key: str, choices: dict[str, str], default: str) -> str:
        if key not in self._said.single:
            return default

        def chosen(value: str) -> str:
            if value.lower() not in choices:
                message = f"'{value}' is not one of {', '.join(choices)}"
                raise BadLineError(message)
            return choices[value.lower()]

        return self._at(key, chosen)

    def _files(self, key: str, tokens: dict[str, Callable[[], str]]) -> Iterator[Path]:
        """Files of a setting that adds up."""
        for said in self._said.growing.get(key, []):
            if said.values[0].lower() != "none":
                yield self._at(key, lambda value: ssh_tokens.path(value, tokens), said)

    def _identities(self, tokens: dict[str, Callable[[], str]]) -> Iterator[Path]:
        """The keys that are named, also those that are not there, or else the default ones that are."""
        if "identityfile" in self._said.growing:
            yield from self._files("identityfile", tokens)
        elif ssh_tokens.home() is not None:
            yield from (file for name in DEFAULT_IDENTITIES if _is_key(file := Path(ssh_tokens.tilde(name))))

    def _known_hosts(self, tokens: dict[str, Callable[[], str]]) -> Iterator[Path]:
        """Files of known host keys; tokens count in the user's alone."""
        for key, default in (("userknownhostsfile", USER_KNOWN_HOSTS), ("globalknownhostsfile", SYSTEM_KNOWN_HOSTS)):
            if key not in self._said.single:
                yield from (Path(ssh_tokens.tilde(name)) for name in default.split() if ssh_tokens.home() or name[0] != "~")
                continue
            used = tokens if key == "userknownhostsfile" else None
            said = self._said.single[key]
            for name in said.values:
                if name.lower() != "none":
                    yield self._at(key, lambda value: _file(value, used), Said((name,), said.place))  # noqa: B023 - used at once

    def _through(self, tokens: dict[str, Callable[[], str]]) -> tuple[tuple[str, ...], str | None]:
        """The hops or the command to go through; 'none' is none."""
        jump, command = self._said.text("proxyjump"), self._said.text("proxycommand")
        if jump is not None and jump.lower() != "none":
            return self._at("proxyjump", _hops), None
        if command is None or command.lower() == "none":
            return (), None
        some = {letter: tokens[letter] for letter in "hknpr"}
        return (), self._at("proxycommand", lambda value: ssh_tokens.percent(value, some))


def _file(value: str, tokens: dict[str, Callable[[], str]] | None) -> Path:
    return Path(ssh_tokens.tilde(value)) if tokens is None else ssh_tokens.path(value, tokens)


def _hops(value: str) -> tuple[str, ...]:
    """The hosts of a ProxyJump; each must be one."""
    hops = tuple(hop.strip() for hop in value.split(","))
    for hop in hops:
        try:
            _, host, _ = split(hop)
        except UsageError as exc:
            raise BadLineError(str(exc)) from exc
        if ":" in host and "[" not in hop:
            message = f"'{hop}' is not a host: put an IPv6 address in brackets"
            raise BadLineError(message)
    return hops


def _is_port(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,5}", text) is not None and 0 < int(text) < 1 << 16


def _port(value: str) -> int:
    """A number, or the name of a service."""
    try:
        number = int(value) if re.fullmatch(r"\s*\+?[0-9]+", value, re.ASCII) else socket.getservbyname(value, "tcp")
    except OSError:
        number = 0
    if not 0 < number < 1 << 16:
        message = f"Port must be a number from 1 to 65535, not '{value}'"
        raise BadLineError(message)
    return number


def _address(host: str) -> str:
    """A numeric address in its usual form, under which known_hosts has it (``127.1`` is 127.0.0.1); a name as it is."""
    try:
        ((*_, place),) = socket.getaddrinfo(os.fsencode(host), None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        return socket.getnameinfo(place, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0].lower()
    except (OSError, ValueError):
        return host


def _may_be_read(file: Path) -> bool:
    """Whether a file is there, or can't be looked at: a message may have to name it. No file has a name that is too long."""
    try:
        return file.is_file()
    except OSError as exc:
        return exc.errno != errno.ENAMETOOLONG


def _is_key(file: Path) -> bool:
    """Whether a key is there, or its public part alone: an agent may hold the rest."""
    return paths.is_file(file) or paths.is_file(file.with_name(f"{file.name}.pub"))
