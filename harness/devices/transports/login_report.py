"""Records what was offered at a login and its result, and writes one message that names each key and the next step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import AuthenticationError, ConnectError

if TYPE_CHECKING:
    from harness.devices.device import Device
    from harness.devices.transports.user_auth import UserAuth

LISTED, SAID_CHARACTERS = 8, 300
# After so many refusals, a server that hangs up allows no more tries.
TRIES = 3
TOO_MANY = "Too many authentication failures"


class LoginReport:
    """Notes what becomes of a login.

    Args:
        device: where.
        where: what its server is called: host and port.
        user: who logs in.

    Attributes:
        offered: how many keys were offered.
        agent_fault: why the SSH agent can't be used; None if nothing is known of that.
    """

    def __init__(self, device: Device, where: str, user: str) -> None:
        self._device, self._where, self._user = device, where, user
        self._outcomes: list[tuple[str, str]] = []
        self._now: str | None = None
        self.offered = 0
        self.agent_fault: str | None = None

    def offering(self, label: str) -> None:
        """Say which key is offered now."""
        self.offered += 1
        self._now = label

    def note(self, label: str, what: str) -> None:
        """Say what became of one thing that was tried."""
        self._now = None
        self._outcomes.append((label, what))

    def refused(self, auth: UserAuth) -> AuthenticationError:
        """Nothing was accepted."""
        allowed = plain(list(auth.methods), ", ") or "nothing"
        said = f"; it said: '{words}'" if (words := plain(auth.said)) else ""
        agent = f"; {self.agent_fault}" if self.agent_fault else ""
        if not self._outcomes and agent:
            return self._error(f"there is no key to offer to {self._where}{agent}{said}")
        if not self._outcomes and "publickey" in auth.methods:
            advice = "set identity_file or password_env, or start an SSH agent"
            return self._error(f"there is no key or password to offer to {self._where}: {advice}{said}")
        tried = f"; tried: {self._listed()}" if self._outcomes else ""
        reason = f"{self._where} refused the login of user '{self._user}'{tried}{agent}; it takes {allowed}{said}; {self._advice(auth)}"
        return self._error(reason)

    def hung_up(self, auth: UserAuth | None, goodbye: str, *, silent: bool) -> AuthenticationError | ConnectError | None:  # noqa: PLR0911 - one for each kind
        """Why the connection ended in the middle, if it can be told.

        Args:
            auth: how far it got; None is not even a beginning.
            goodbye: what the server said as a reason.
            silent: whether it did not hang up, but says nothing any more.
        """
        where = self._where
        if self._now is not None:
            self.note(self._now, "refused" if goodbye else "it hung up")
        listed = f"; tried: {self._listed()}" if self._outcomes else ""
        if self.agent_fault:
            # What the agent cost in time, the server may not have waited for.
            return self._error(f"{where} hung up; {self.agent_fault}{listed}")
        if silent:
            return None
        words = plain([goodbye])
        if TOO_MANY in words or (not words and self.offered >= TRIES):
            last = f" ({words})" if words else ", and may allow no more tries"
            count = f"{self.offered} key{'s were' if self.offered != 1 else ' was'} offered"
            how = "set identity_file to the key that it accepts, or set IdentityFile and 'IdentitiesOnly yes' in ssh_config"
            if self._device.identity_file is not None:
                how = "check user, identity_file and the device's authorized_keys"
            return self._error(f"{where} hung up after {count}{last}: {how}{listed}")
        if words:
            return ConnectError(self._device.name, "connect", f"{where} ended the connection at the login: '{words}'")
        if auth is not None and (words := plain(auth.last_said)):
            return self._error(f"{where} refused the login of user '{self._user}' and hung up; it said: '{words}'{listed}")
        if auth is not None and auth.proven:
            advice = "is the account locked or expired on the device? The log of its sshd says why"
            reason = (
                f"the connection to {where} was lost at the login of user '{self._user}', after the key was accepted: {advice}"
            )
            return ConnectError(self._device.name, "connect", reason)
        return None

    def _advice(self, auth: UserAuth) -> str:
        if self._device.password_env is not None and not {"password", "keyboard-interactive"} & set(auth.methods):
            return "set identity_file in devices.toml, or allow passwords in the sshd_config there (PasswordAuthentication)"
        if self._device.password_env is not None:
            return f"check user and the password in {self._device.password_env}"
        if "publickey" not in auth.methods:
            return "set password_env in devices.toml, or allow keys in its sshd_config (PubkeyAuthentication)"
        return "check user, identity_file and the device's authorized_keys"

    def _listed(self) -> str:
        more = len(self._outcomes) - LISTED
        told = [f"{label} ({what})" for label, what in self._outcomes[:LISTED]]
        return ", ".join(told) + (f" and {more} more" if more > 0 else "")

    def _error(self, reason: str) -> AuthenticationError:
        return AuthenticationError(self._device.name, "connect", reason)


def plain(said: list[str], between: str = " ") -> str:
    """A server's words, on one line."""
    text = " ".join(between.join(said).split())
    return "".join(c if c.isprintable() else "?" for c in text)[:SAID_CHARACTERS]
