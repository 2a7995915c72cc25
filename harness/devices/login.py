"""Logging in: with what devices.toml names and nothing else, or else with what ssh would try; and why it failed."""

from __future__ import annotations

import getpass
import os
from typing import TYPE_CHECKING, Any

import paramiko

from harness.devices import identities, ssh_agent
from harness.devices.identities import UnusableError
from harness.devices.ssh_agent import AgentError, SshAgent
from harness.devices.user_auth import Answer, SignatureError, UserAuth
from harness.errors import AuthenticationError, ConnectError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.devices.device import Device
    from harness.devices.identities import Identity
    from harness.devices.registry import Registry
    from harness.devices.ssh_config import Route

LISTED, SAID_CHARACTERS = 8, 300
# After so many refusals, a server that hangs up allows no more tries.
TRIES = 3
TOO_MANY = "Too many authentication failures"


def options(device: Device, route: Route, registry: Registry) -> dict[str, Any]:
    """Say it for paramiko.

    Raises:
        AuthenticationError: if the key or the password that devices.toml names is not there.
    """
    file, password = device.identity_file, None
    if file is not None:
        file = file.expanduser()
        if not (file.is_file() or file.with_name(f"{file.name}.pub").is_file()):
            reason = f"identity_file {file}: no such file; correct it in {registry.path or 'devices.toml'}"
            raise AuthenticationError(device.name, "connect", reason)
    if device.password_env is not None:
        if device.password_env not in os.environ:
            reason = f"the environment variable {device.password_env} (password_env) is not set"
            raise AuthenticationError(device.name, "connect", reason)
        password = os.environ[device.password_env]
    return {"auth_strategy": Login(device, route, file, password)}


class Login:
    """A login, which paramiko calls when the host key was checked.

    Args:
        device: where.
        route: what ssh_config says.
        file: the key that devices.toml names.
        password: the one that devices.toml names.
    """

    def __init__(self, device: Device, route: Route, file: Path | None, password: str | None) -> None:
        self._device, self._route, self._file, self._password = device, route, file, password
        self._where = f"{route.host}:{route.port}"
        self._outcomes: list[tuple[str, str]] = []
        self._offered = 0
        self._agent: SshAgent | None = None

    def authenticate(self, transport: paramiko.Transport) -> None:
        """Log in.

        Raises:
            AuthenticationError: if the server accepts nothing; it names each key that was tried and what came of it.
            ConnectError: if the server says good-bye for another reason.
            SSHException: if the connection breaks.
        """
        self._outcomes, self._offered = [], 0
        auth: UserAuth | None = None
        user = self._user()
        try:
            auth = UserAuth(transport, user)
            if auth.offer_nothing() is not Answer.ACCEPTED:
                self._try_all(auth, user)
        except (paramiko.SSHException, EOFError, OSError) as exc:
            if (fault := self._hung_up(transport, exc)) is not None:
                raise fault from exc
            raise
        finally:
            if self._agent is not None:
                self._agent.close()
        if not auth.is_authenticated():
            raise AuthenticationError(self._device.name, "connect", self._why(auth, user))

    def _try_all(self, auth: UserAuth, user: str) -> None:
        """Try keys, then the password, as long as the server wants more."""
        if "publickey" in auth.methods:
            for identity in self._identities():
                answer = self._try(auth, identity, user)
                if answer is Answer.ACCEPTED:
                    return
                if answer is Answer.PARTLY and "publickey" not in auth.methods:
                    break
        if self._password is not None and {"password", "keyboard-interactive"} & set(auth.methods):
            answer = auth.offer_password(self._password)
            expired = "has expired: log in with ssh once and set a new one"
            what = expired if answer is Answer.PASSWORD_EXPIRED else "refused"
            self._outcomes.append((f"the password in {self._device.password_env}", what))

    def _try(self, auth: UserAuth, identity: Identity, user: str) -> Answer:
        """Offer one key, and note what became of it."""
        try:
            if identity.blob is None:
                # What is wrong with it, its signature tells.
                identity.sign(b"", "")
            self._offered += 1
            answer = auth.offer_key(identity.blob or b"", identity.sign)
        except (UnusableError, AgentError, SignatureError) as exc:
            self._outcomes.append((identity.label, str(exc)))
            return Answer.REFUSED
        what = "refused"
        if answer is Answer.PARTLY:
            what = "accepted, but the server wants more than that"
        elif identity.certificate is not None and (fault := identity.certificate.user_fault(user)) is not None:
            what = f"refused; the certificate {fault}"
        elif identity.fault:
            what = f"refused; also, {identity.fault}"
        self._outcomes.append((identity.label, what))
        return answer

    def _identities(self) -> Iterator[Identity]:
        """What may be offered."""
        if self._password is not None and self._file is None:
            return iter(())
        device, route = self._device, self._route
        path = ssh_agent.socket_of(route.identity_agent)
        if path is not None:
            self._agent = SshAgent(path, device.connect_time, setting=route.identity_agent is not None)
        files = route.identities if self._file is None else (self._file,)
        found = identities.find(
            files,
            route.certificate_files,
            self._agent,
            only=self._file is not None or route.only,
            seconds=2 * device.connect_time,
            passphrase=self._password,
        )
        return iter(found)

    def _user(self) -> str:
        try:
            return self._route.user or getpass.getuser()
        except (KeyError, OSError, ImportError):
            reason = "this machine's user has no name to log in with: set user in devices.toml"
            raise AuthenticationError(self._device.name, "connect", reason) from None

    def _hung_up(self, transport: paramiko.Transport, exc: Exception) -> AuthenticationError | ConnectError | None:
        """Why the server ended the connection, if it can be told."""
        words = _plain([str(getattr(transport, "goodbye", ""))])
        if self._agent is not None and self._agent.fault:
            # What it cost in time, the server may not have waited for.
            return AuthenticationError(self._device.name, "connect", f"{self._where} hung up; {self._agent.fault}")
        if "timeout" in str(exc) or not (words or self._offered >= TRIES):
            return None
        where, name = self._where, self._device.name
        if TOO_MANY in words or not words:
            last = f" ({words})" if words else ", and may allow no more tries"
            listed = f"; tried: {self._listed()}" if self._outcomes else ""
            reason = (
                f"{where} hung up after {self._offered} keys were offered{last}: set identity_file to the one that it accepts, "
                f"or IdentityFile and 'IdentitiesOnly yes' in ssh_config{listed}"
            )
            return AuthenticationError(name, "connect", reason)
        return ConnectError(name, "connect", f"{where} ended the connection at the login: '{words}'")

    def _why(self, auth: UserAuth, user: str) -> str:
        """What was tried, what came of it, and what to do."""
        allowed = ", ".join(_plain([method]) for method in auth.methods) or "nothing"
        said = f"; it said: '{words}'" if (words := _plain(auth.said)) else ""
        agent = f"; {self._agent.fault}" if self._agent is not None and self._agent.fault else ""
        if not self._outcomes:
            if "publickey" in auth.methods and self._password is None and not agent:
                return f"there is no key or password to offer to {self._where}: set identity_file or password_env, or start an SSH agent{said}"
            if agent:
                return f"there is no key to offer to {self._where}{agent}{said}"
        tried = f"; tried: {self._listed()}" if self._outcomes else ""
        return f"{self._where} refused the login of user '{user}'{tried}{agent}; it takes {allowed}{said}; {self._advice(auth)}"

    def _advice(self, auth: UserAuth) -> str:
        if self._password is not None:
            return f"check user and the password in {self._device.password_env}"
        if "publickey" not in auth.methods:
            return "set password_env in devices.toml, or allow keys in the sshd_config there (PubkeyAuthentication)"
        return "check user, identity_file and the device's authorized_keys"

    def _listed(self) -> str:
        more = len(self._outcomes) - LISTED
        told = [f"{label} ({what})" for label, what in self._outcomes[:LISTED]]
        return ", ".join(told) + (f" and {more} more" if more > 0 else "")


def _plain(said: list[str]) -> str:
    """A server's words, on one line."""
    text = " ".join(" ".join(said).split())
    return "".join(c if c.isprintable() else "?" for c in text)[:SAID_CHARACTERS]
