"""SSH: fabric connections on paramiko, with host keys checked and every backend error mapped at one seam."""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import shlex
import threading
from typing import TYPE_CHECKING

import paramiko
import stamina
from fabric import Config, Connection

from harness.devices.ssh_errors import BANNER, mapped, silence
from harness.devices.ssh_tuning import Watch, tuned
from harness.devices.transport import LINE_LIMIT
from harness.errors import AuthenticationError, ConnectError, HostKeyError, LostError, RegistryError, RunnerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.devices.registry import Device, Registry

ATTEMPTS = 4
OPEN_SECONDS = 10
# Many devices at once would starve each other of this machine's processors, and be too many for one jump host.
HANDSHAKES = threading.BoundedSemaphore(8)
KEEPALIVE_SECONDS = 15
LOG_BYTES = 4096
WRITE_BYTES = 1 << 15
# What they log, our errors say; without a handler it would reach the terminal, tracebacks and all.
for _library in ("paramiko", "stamina"):
    logging.getLogger(_library).addHandler(logging.NullHandler())


class SshTransport:
    """The way to a device over SSH: one connection, any number of channels."""

    def __init__(self, device: Device, registry: Registry) -> None:
        self._device = device
        self._connection = _connection(device, registry)
        self._watch = Watch(None, silence(device))
        try:
            for attempt in stamina.retry_context(on=_turned_away, attempts=ATTEMPTS, wait_initial=0.2, wait_max=2.0):
                with attempt, mapped(device, "connect"), HANDSHAKES:
                    self._connection.open()
            self._connection.transport.set_keepalive(KEEPALIVE_SECONDS)
            self._watch = Watch(self._connection.transport, silence(device))
        except BaseException:
            self.close()
            raise

    def open(self, words: Sequence[str], step: str) -> SshChannel:
        """Start a process on the device; the words are quoted here and nowhere else.

        Raises:
            DeviceError: if the connection is gone or no channel can be had.
        """
        with mapped(self._device, step):
            channel = self._connection.transport.open_session(timeout=max(OPEN_SECONDS, self._device.connect_time))
            channel.settimeout(silence(self._device))
            channel.exec_command(shlex.join(words))
        return SshChannel(self._device, channel, step, self._watch)

    def close(self) -> None:
        """Close the connection, and the one to the jump host."""
        self._watch.end()
        _close(self._connection)


class SshChannel:
    """One process on the device."""

    def __init__(self, device: Device, channel: paramiko.Channel, step: str, watch: Watch) -> None:
        self._device, self._channel, self._step, self._watch = device, channel, step, watch
        self._log = b""
        # Standard error shares the channel's window: left unread, a flood of it would stop everything.
        self._drain = threading.Thread(target=self._read_log, daemon=True)
        self._drain.start()

    def write(self, data: bytes) -> None:
        """Write to its standard input; as long as the process gives signs of life, it may take its time.

        Raises:
            DeviceError: if the process or the connection is gone.
        """
        sent, heard = 0, -1
        with mapped(self._device, self._step), self._watch.over(self._heard):
            while sent < len(data):
                try:
                    # What is left, in no more than the peer's window takes at once: a copy of it all would be made each time.
                    sent += self._channel.send(data[sent : sent + WRITE_BYTES])
                except TimeoutError:
                    if heard == self._heard():
                        raise
                    heard = self._heard()
                except OSError:
                    if not self._channel.get_transport().is_active():
                        raise
                    raise RunnerError(
                        self._device.name, self._step, f"the process ended early: {self.close() or 'no message'}"
                    ) from None

    def _heard(self) -> int:
        """How many bytes wait to be read: more when it said something."""
        return len(self._channel.in_buffer)

    def end(self) -> None:
        """Close its standard input."""
        with mapped(self._device, self._step):
            self._channel.shutdown_write()

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of its standard output.

        Raises:
            DeviceError: if the connection breaks or stays silent too long.
        """
        rest = bytearray()
        while True:
            with mapped(self._device, self._step):
                data = self._channel.recv(1 << 16)
            if not data:
                break
            rest += data
            *whole, tail = rest.split(b"\n") if b"\n" in data else [rest]
            for line in whole:
                yield bytes(line) + b"\n"
            rest = bytearray(tail)
            if len(rest) > LINE_LIMIT:
                raise RunnerError(self._device.name, self._step, f"it sent a line of more than {LINE_LIMIT} bytes")
        if rest:
            yield bytes(rest)
        # A connection that breaks ends the stream too, but only a process that ended by itself has an exit status.
        self._channel.status_event.wait(self._device.connect_time)
        if self._channel.exit_status < 0:
            reason = f"the connection to {self._device.host} was lost, or the process there was killed"
            raise LostError(self._device.name, self._step, reason)

    def close(self) -> str:
        """Close the channel and give the last of its standard error."""
        self._drain.join(timeout=1 if self._channel.eof_received else 0)
        # On a connection that broke there is nobody to tell.
        with contextlib.suppress(EOFError, OSError, paramiko.SSHException):
            self._channel.close()
        return self._log.decode(errors="replace").strip()

    def _read_log(self) -> None:
        """Keep the end of its standard error."""
        data = b"-"
        while data and not self._channel.closed:
            try:
                data = self._channel.recv_stderr(1 << 16)
            except TimeoutError:
                continue
            self._log = (self._log + data)[-LOG_BYTES:]


class _Unknown(paramiko.MissingHostKeyPolicy):
    """Refuses, and says how to trust."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002
        reason = (
            f"unknown host key of {hostname}: {key.get_name()} {key.fingerprint}; compare it with what "
            f"'ssh-keygen -lf /etc/ssh/ssh_host_…_key.pub' says on the device, then: harness device trust {self._device.name}"
        )
        raise HostKeyError(self._device.name, "connect", reason)


class _Shown(Exception):  # noqa: N818 - carries a key out of paramiko, no error
    def __init__(self, key: paramiko.PKey) -> None:
        self.key = key


class _Look(paramiko.MissingHostKeyPolicy):
    """Takes the key and goes no further."""

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002
        raise _Shown(key)


def host_key(device: Device, registry: Registry) -> tuple[str, str]:
    """Ask a device for its host key, without logging in.

    Returns:
        The key as devices.toml takes it (``ssh-ed25519 AAAA…``) and its fingerprint (``SHA256:…``).

    Raises:
        ConnectError: if the device does not answer.
    """
    connection = _connection(device.model_copy(update={"host_key": None}), registry)
    connection.client._system_host_keys.clear()  # noqa: SLF001 - a known key must not keep us from looking
    connection.client.set_missing_host_key_policy(_Look())
    try:
        with mapped(device, "connect"):
            connection.open()
    except _Shown as shown:
        return f"{shown.key.get_name()} {shown.key.get_base64()}", shown.key.fingerprint
    finally:
        _close(connection)
    raise ConnectError(device.name, "connect", "it showed no host key")


def _connection(device: Device, registry: Registry) -> Connection:
    """Build a connection that checks host keys; fabric's own accepts any (its issue 2071)."""
    options: dict[str, object] = {
        "banner_timeout": device.connect_time,
        "auth_timeout": 2 * device.connect_time,
        "transport_factory": tuned(silence(device)),
    }
    if device.identity_file is not None:
        file = device.identity_file.expanduser()
        if not file.is_file():
            raise AuthenticationError(
                device.name, "connect", f"identity_file {file}: no such file; correct it in {registry.path}"
            )
        options |= {"key_filename": str(file), "look_for_keys": False, "allow_agent": False}
    if device.password_env is not None:
        if device.password_env not in os.environ:
            reason = f"the environment variable {device.password_env} (password_env) is not set"
            raise AuthenticationError(device.name, "connect", reason)
        options |= {"password": os.environ[device.password_env], "look_for_keys": False, "allow_agent": False}
    gateway = None
    if device.jump is not None:
        if device.jump == device.name or device.jump not in registry.devices:
            message = f"{registry.path}: '{device.name}.jump': '{device.jump}' is not another device; give the jump host a table of its own"
            raise RegistryError(message)
        gateway = _connection(registry.devices[device.jump], registry)
    connection = Connection(
        device.host, user=device.user, port=device.port, gateway=gateway, connect_timeout=device.connect_time, connect_kwargs=options,
        config=Config(),
    )  # fmt: skip
    client = connection.client
    client.set_missing_host_key_policy(_Unknown(device))
    if device.host_key is None:
        client.load_system_host_keys()
    else:
        kind, encoded = device.host_key.split()[:2]
        known = connection.host if connection.port == paramiko.config.SSH_PORT else f"[{connection.host}]:{connection.port}"
        client.get_host_keys().add(known, kind, _public_key(device, kind, encoded))
    return connection


def _close(connection: Connection) -> None:
    """Close a connection and those it goes through, also one that never came about.

    Fabric closes only what is connected; a refused login would keep its socket, and sshd its place among MaxStartups.
    """
    with contextlib.suppress(Exception):
        connection.close()
    connection.client.close()
    if isinstance(connection.gateway, Connection):
        _close(connection.gateway)


def _turned_away(error: Exception) -> bool:
    """Whether sshd hung up before it said anything, as it does when too many connect at once (MaxStartups)."""
    return isinstance(error, ConnectError) and BANNER in str(error.__cause__)


def _public_key(device: Device, kind: str, encoded: str) -> paramiko.PKey:
    try:
        return paramiko.PKey.from_type_string(kind, base64.b64decode(encoded))
    except Exception as exc:
        message = f"'{device.name}.host_key': not a {kind} public key ({exc}); harness device trust {device.name} writes it"
        raise RegistryError(message) from exc
