"""Logs in with the key or password that devices.toml names and nothing else, or else with what ssh would try."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import paramiko

from harness import paths
from harness.devices.transports import identities, ssh_agent, ssh_tokens
from harness.devices.transports.identities import UnusableError
from harness.devices.transports.login_report import LoginReport
from harness.devices.transports.ssh_agent import AgentError, AgentSession, SshAgent
from harness.devices.transports.ssh_match import BadLineError
from harness.devices.transports.user_auth import Answer, SignatureError, UserAuth
from harness.errors import AuthenticationError

if TYPE_CHECKING:
    from pathlib import Path

    from harness.devices.device import Device
    from harness.devices.transports.identities import Identity
    from harness.devices.transports.ssh_config import Route


def options(device: Device, route: Route) -> dict[str, Any]:
    """Say it for paramiko.

    Raises:
        AuthenticationError: if the key or the password that devices.toml names is not there.
    """
    file, password = device.identity_file, None
    if file is not None:
        file = paths.expanded(file)
        if (fault := _lack(file)) is not None:
            reason = f"identity_file {file}: {fault}; correct it in {device.origin.path}"
            raise AuthenticationError(device.name, "connect", reason, key="identity_file")
    if device.password_env is not None:
        if device.password_env not in os.environ:
            reason = f"the environment variable {device.password_env} (password_env) is not set"
            raise AuthenticationError(device.name, "connect", reason)
        password = os.environ[device.password_env]
    return {"auth_strategy": Login(device, route, file, password)}


def _lack(file: Path) -> str | None:
    """Why there is no key in a file; None if there may be one, or its public part."""
    try:
        if file.is_file() or paths.is_file(file.with_name(f"{file.name}.pub")):
            return None
        return "is a folder, not a key" if file.is_dir() else "is not a regular file" if file.exists() else "no such file"
    except OSError as exc:
        return f"can't be read: {exc.strerror}"


# How a server takes a password.
PASSWORDS = {"password", "keyboard-interactive"}


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

    def authenticate(self, transport: paramiko.Transport) -> None:
        """Log in.

        Raises:
            AuthenticationError: if the server accepts nothing; it names each key that was tried and what came of it.
            ConnectError: if the server says good-bye for another reason.
            SSHException: if the connection breaks.
        """
        user, agent = self._user(), self._agent(transport)
        report = LoginReport(self._device, f"{self._route.host}:{self._route.port}", user)
        auth: UserAuth | None = None
        try:
            auth = UserAuth(transport, user)
            if auth.offer_nothing() is not Answer.ACCEPTED:
                self._try_all(auth, agent, report)
        except (paramiko.SSHException, EOFError, OSError) as exc:
            report.agent_fault = agent.fault if agent is not None else None
            goodbye = str(getattr(transport, "goodbye", ""))
            if (fault := report.hung_up(auth, goodbye, silent="timeout" in str(exc))) is not None:
                raise fault from exc
            raise
        finally:
            if agent is not None:
                agent.close()
        if not auth.is_authenticated():
            report.agent_fault = agent.fault if agent is not None else None
            raise report.refused(auth)

    def _try_all(self, auth: UserAuth, agent: SshAgent | None, report: LoginReport) -> None:
        """Try keys, then the password, as long as the server wants more."""
        if "publickey" in auth.methods:
            for identity in self._identities(agent):
                answer = self._try(auth, identity, report)
                if answer is Answer.ACCEPTED:
                    return
                if answer is Answer.PARTLY and "publickey" not in auth.methods:
                    break
        if self._password is not None and not PASSWORDS & set(auth.methods):
            report.note(f"the password in {self._device.password_env}", "not sent: the server takes no passwords")
        elif self._password is not None:
            answer = auth.offer_password(self._password)
            expired = "has expired: log in once with ssh and set a new password"
            what = expired if answer is Answer.PASSWORD_EXPIRED else "refused"
            report.note(f"the password in {self._device.password_env}", what)

    @staticmethod
    def _try(auth: UserAuth, identity: Identity, report: LoginReport) -> Answer:
        """Offer one key, and note what became of it."""
        try:
            if identity.blob is None:
                # What is wrong with it, its signature tells.
                identity.sign(b"", "")
            report.offering(identity.label)
            answer = auth.offer_key(identity.blob or b"", identity.sign)
        except (UnusableError, AgentError, SignatureError) as exc:
            report.note(identity.label, str(exc))
            return Answer.REFUSED
        what = "refused"
        if answer is Answer.PARTLY:
            what = "accepted, but the server requires another method as well"
        elif answer is Answer.PROVEN_BUT_REFUSED:
            root = "root may not log in with a key (PermitRootLogin in its sshd_config)"
            what = f"the key is accepted, but not the login: {root if auth.user == 'root' else 'the log of its sshd says why'}"
        elif identity.certificate is not None and (fault := identity.certificate.user_fault(auth.user)) is not None:
            what = f"refused; the certificate {fault}"
        elif identity.fault:
            what = f"refused; also, {identity.fault}"
        report.note(identity.label, what)
        return answer

    def _agent(self, transport: paramiko.Transport) -> SshAgent | None:
        """The agent that may be asked for keys."""
        path = ssh_agent.socket_of(self._route.identity_agent)
        if path is None:
            return None
        proof: tuple[bytes, bytes] | None = getattr(transport, "host_proof", None)
        session = AgentSession(proof[0], transport.session_id or b"", proof[1]) if proof is not None else None
        return SshAgent(path, self._device.connect_time, setting=self._route.identity_agent is not None, session=session)

    def _identities(self, agent: SshAgent | None) -> list[Identity]:
        """What may be offered."""
        if self._password is not None and self._file is None:
            return []
        return identities.find(
            self._route.identities if self._file is None else (self._file,),
            self._route.certificate_files,
            agent,
            only=self._file is not None or self._route.only,
            seconds=2 * self._device.connect_time,
            passphrase=self._password,
        )

    def _user(self) -> str:
        try:
            return self._route.user or ssh_tokens.local_user()
        except BadLineError:
            reason = "the current user of this machine has no name to log in with: set user in devices.toml"
            raise AuthenticationError(self._device.name, "connect", reason) from None
