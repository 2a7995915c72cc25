"""A connection to one SSH server with fabric, through jump hosts if need be; the host key of each is checked.

Fabric's own accepts any host key (its issue 2071) and takes the hops of a ProxyJump in the wrong order, so it is told nothing of ssh_config.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

from fabric import Config, Connection
from paramiko.config import SSHConfig, SSHConfigDict

from harness.devices.transports import addresses, connect_errors
from harness.devices.transports.handshake import AlgorithmError, ExchangeError, GreetingError
from harness.devices.transports.proxy import ProxyCommand
from harness.devices.transports.silence import silence
from harness.devices.transports.ssh_errors import mapped
from harness.devices.transports.ssh_tuning import CertifiedTransport, TunedSocket, TunedTransport
from harness.errors import AuthenticationError, ConnectError, DeviceError, HostKeyError

if TYPE_CHECKING:
    import paramiko

    from harness.devices.device import Device
    from harness.devices.transports.host_keys import Checked
    from harness.devices.transports.ssh_config import Route

# As many times connect_time.
LONGEST = 12
CLOSE_SECONDS = 5.0
# What AddressFamily of ssh_config may say.
FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}


class _Nothing(SSHConfig):
    """An ssh_config that says nothing; paramiko's own asks passwd for the user's name even then."""

    def lookup(self, hostname: str) -> SSHConfigDict:
        """Give the host alone."""
        return SSHConfigDict(hostname=hostname)


class SshConnection:
    """An SSH connection that can be opened, through others if need be."""

    def __init__(
        self, device: Device, route: Route, policy: Checked, options: dict[str, Any], before: SshConnection | None
    ) -> None:
        # Errors name what was really asked, not the alias.
        self._device = device.model_copy(update={"host": route.host, "port": route.port})
        self._policy, self._before, self._route = policy, before, route
        self._proxy: ProxyCommand | None = None
        self._carrier: Any = None
        self._patience = device.connect_time
        self._options: dict[str, Any] = {
            "timeout": self._patience,
            "banner_timeout": self._patience,
            "auth_timeout": 2 * device.connect_time,
        }
        kind = CertifiedTransport if policy.known.authorities else TunedTransport
        self._options |= {"transport_factory": kind, **options}
        if policy.unwanted:
            self._options["disabled_algorithms"] = {"keys": policy.unwanted}
        # Fabric would cut its own connect_timeout down to whole seconds.
        config = Config(ssh_config=_Nothing(), lazy=True)
        # Who logs in, the login says; without any name here, paramiko would ask for that of this machine's user.
        self._connection = Connection(
            route.host, user=route.user or "nobody", port=route.port, gateway=False, connect_kwargs=self._options, config=config
        )
        self._connection.client.set_missing_host_key_policy(policy)

    @property
    def device(self) -> Device:
        """The device, with the host and the port that are really asked."""
        return self._device

    @property
    def transport(self) -> paramiko.Transport:
        """Paramiko's end of it, once it is open."""
        transport: paramiko.Transport = self._connection.transport
        return transport

    @property
    def first(self) -> tuple[str, int]:
        """The server that is connected to first: the outermost jump host, or the device."""
        return self._before.first if self._before is not None else (str(self._device.host), int(self._device.port or 0))

    def open(self) -> None:
        """Connect and log in, here and on the way; does nothing if that was done.

        Raises:
            DeviceError: a member of its branch; it names the hop that failed.
        """
        if self._connection.is_connected:
            return
        # Far above what the limits of each phase allow together: for a clock that is set back meanwhile, and a server that drips.
        alarm = threading.Timer(LONGEST * self._patience, self.cut)
        alarm.daemon = True
        alarm.start()
        try:
            with mapped(self._device, "connect"):
                self._options["sock"] = self._carrier = self._socket()
                try:
                    self._connection.open()
                except AlgorithmError as exc:
                    # The server has host keys of kinds that are supported, but none of the known key's kind.
                    if all(set(lack.theirs) & set(lack.ours) for lack in exc.lacking):
                        what = f"it has none of the known kind ({self._policy.kinds})"
                        raise self._policy.other(what) from exc
                    raise
        except DeviceError as exc:
            if self._proxy is None or isinstance(exc, HostKeyError | AuthenticationError):
                raise
            fault = self._proxy.fault()
            if self._proxy.was_running and not isinstance(exc.__cause__, GreetingError | ExchangeError):
                raise
            greeting = exc.__cause__
            if self._proxy.failed and isinstance(greeting, GreetingError) and not greeting.heard and not greeting.silent:
                # Of the server, nothing is known.
                advice = "run the command in a shell to see what is wrong, and correct ProxyCommand in ssh_config"
                raise ConnectError(self._device.name, "connect", f"{fault}: {advice}") from None
            cause = None if self._proxy.failed else exc.__cause__
            raise ConnectError(self._device.name, "connect", f"{fault}; {exc.reason}") from cause
        finally:
            alarm.cancel()

    def cut(self) -> None:
        """End the connection from outside, at once: whoever waits for something on it gets an error; :meth:`close` is still due."""
        # What goes through a jump host ends with the connection to that; its own channel could wait for it.
        if isinstance(self._carrier, ProxyCommand):
            self._carrier.cut()
        elif isinstance(self._carrier, socket.socket):
            with contextlib.suppress(OSError):
                self._carrier.shutdown(socket.SHUT_RDWR)
        if self._before is not None:
            self._before.cut()

    def close(self) -> None:
        """Close it and those it goes through, also one that never came about.

        Fabric closes only what is connected; a refused login would keep its socket, and sshd its place among MaxStartups.
        """
        # Behind a jump host or a ProxyCommand, even the word that a connection ends can wait.
        alarm = threading.Timer(CLOSE_SECONDS, self.cut)
        alarm.daemon = True
        alarm.start()
        try:
            with contextlib.suppress(Exception):
                self._connection.close()
            self._connection.client.close()
            if self._proxy is not None:
                self._proxy.close()
            if self._before is not None:
                self._before.close()
        finally:
            alarm.cancel()

    def _socket(self) -> Any:  # noqa: ANN401 - whatever paramiko takes for one
        """What carries the connection: a socket, a channel of the jump host, or a ProxyCommand."""
        if self._before is not None:
            return self._through(self._before)
        if self._route.command is not None:
            self._proxy = ProxyCommand(self._route.command)
            return self._proxy
        host, port = str(self._device.host), int(self._device.port or 0)
        connected = addresses.connect(
            host, port, self._patience, FAMILIES.get(self._route.family, socket.AF_UNSPEC), self._route.source
        )
        return TunedSocket(connected, silence(self._device))

    def _through(self, hop: SshConnection) -> paramiko.Channel:
        """Open a channel to this server from the hop before it."""
        jump = f"{hop._device.host}:{hop._device.port}"
        try:
            hop.open()
        except DeviceError as exc:
            reason = f"on the way there, at the jump host {jump}: {exc.reason}"
            # What caused it tells whether it is worth another try.
            told = type(exc)(self._device.name, exc.step, reason)
            told.jump_host = exc.jump_host or jump
            raise told from exc.__cause__
        to = (str(self._device.host), int(self._device.port or 0))
        try:
            with mapped(hop._device, "connect"):
                return hop.transport.open_channel("direct-tcpip", to, ("", 0), timeout=self._patience)
        except DeviceError as exc:
            raise ConnectError(self._device.name, "connect", connect_errors.beyond(jump, *to, exc, self._patience)) from exc
