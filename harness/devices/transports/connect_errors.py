"""Why a connection did not come about → one sentence that says what is wrong and what to do next."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

import paramiko

from harness.devices.transports.addresses import NameFaultError, UnreachableError
from harness.devices.transports.handshake import AlgorithmError, ExchangeError, GreetingError, Lack

if TYPE_CHECKING:
    from harness.devices.device import Device
    from harness.errors import DeviceError

MOST_NAMES = 12
MOST_ADDRESSES = 8
LONGEST_LABEL = 63
# Which next step is told where the addresses of a host fail in different ways: the first of these that occurs.
TELLING = (errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.ENETUNREACH)

REACHED = {
    errno.ECONNREFUSED: ("refused the connection", "is sshd running there?"),
    errno.ECONNRESET: ("reset the connection", "is it an SSH server, and does every firewall on the way allow SSH?"),
    errno.EHOSTUNREACH: ("no route to it", "is it switched on, and is its network cable plugged in?"),
    errno.EHOSTDOWN: ("no route to it", "is it switched on, and is its network cable plugged in?"),
    errno.ENETUNREACH: ("this machine has no route to its network", "is this machine's own network (VPN, Wi-Fi, cable) up?"),
    errno.ENETDOWN: ("this machine's network is down", "is this machine's own network (VPN, Wi-Fi, cable) up?"),
    errno.ETIMEDOUT: ("no answer", "is it switched on, and does every firewall on the way allow SSH?"),
    errno.EACCES: ("this machine forbids the connection", "check this machine's firewall, routes and sandbox"),
    errno.EPERM: ("this machine forbids the connection", "check this machine's firewall, routes and sandbox"),
    errno.EADDRNOTAVAIL: ("this machine has no address or port to connect from", "check its network, and BindAddress in ssh_config"),
    errno.EAFNOSUPPORT: ("this machine does not support this kind of address", "give an IPv4 address, or enable IPv6"),
    errno.EMFILE: ("this process has too many files open", "raise the limit with 'ulimit -n 4096'"),
    errno.ENFILE: ("this machine has too many files open", "end other programs"),
    errno.ENOBUFS: ("this machine has no memory for another connection", "end other programs"),
    errno.ENOMEM: ("this machine has no memory for another connection", "end other programs"),
}  # fmt: skip

# SSH_OPEN_ADMINISTRATIVELY_PROHIBITED of RFC 4254, 5.1.
PROHIBITED = 1
# What a jump host's system says of the next host.
BEYOND = (
    ("refused", "is sshd running there?"),
    ("no route", "is it switched on, and is its network cable plugged in?"),
    ("timed out", "is it switched on, and does every firewall on the way allow SSH?"),
    ("unreachable", "is the jump host's own network up?"),
    ("name", "give an address, or a name that the jump host knows"),
    ("unknown host", "give an address, or a name that the jump host knows"),
)

NAMES = {
    socket.EAI_NONAME: ("is not known", "check its spelling, the DNS domain and /etc/hosts, or give an address"),
    socket.EAI_AGAIN: ("could not be resolved: no DNS server answers", "is this machine's network up?"),
    socket.EAI_FAIL: ("could not be resolved: the DNS server reports a failure", "ask another server, or give an address"),
}
NO_ADDRESS = (
    "has no address of the required kind (IPv4 or IPv6)",
    "check the DNS entry (A, AAAA), and AddressFamily in ssh_config",
)

REMEDY = {
    "host key": "update the SSH server on the device, or make a newer host key there ('ssh-keygen -A'; for Dropbear "
    "'dropbearkey -t ed25519 -f /etc/dropbear/dropbear_ed25519_host_key') and restart it",
    "key exchange": "update the SSH server on the device, or allow one of these in its sshd_config (KexAlgorithms)",
    "cipher": "update the SSH server on the device, or allow one of these in its sshd_config (Ciphers)",
    "MAC": "update the SSH server on the device, or allow one of these in its sshd_config (MACs)",
    "compression": "set 'Compression no' in its sshd_config",
}


def words(exc: Exception, device: Device, where: str) -> str | None:  # noqa: PLR0911 - one for each kind
    """Say why a connection failed; None for what is not about connecting.

    Args:
        exc: what was raised.
        device: the host that was asked.
        where: how to call it: host and port.
    """
    match exc:
        case NameFaultError():
            return _name(str(device.host), exc, device.connect_time)
        case UnreachableError():
            return _unreachable(exc, device, where)
        case GreetingError():
            return _greeting(exc, where, device.connect_time)
        case ExchangeError():
            return f"{where} sent its SSH greeting, but did not finish the key exchange within {device.connect_time:g} s: is it overloaded? Set a longer connect_time in devices.toml"
        case AlgorithmError():
            return _algorithms(exc, where)
    if "Incompatible version" in str(exc):
        return f"{where} speaks only SSH version 1, and version 2 is required: update the SSH server on the device"
    return None


def beyond(jump: str, host: str, port: int, exc: DeviceError, seconds: float) -> str:
    """Say why a jump host did not connect to the next host.

    Args:
        jump: what the jump host is called: host and port.
        host: the next host.
        port: its port.
        exc: what opening a channel raised.
        seconds: how long that was waited for.
    """
    refused = exc.__cause__
    if "Timeout" in str(refused):
        return (
            f"the jump host {jump} can't reach {host}:{port}: no answer within {seconds:g} s: "
            "is it switched on, and does every firewall on the way allow SSH?"
        )
    if not isinstance(refused, paramiko.ChannelException):
        return f"the jump host {jump} can't reach {host}:{port}: {exc.reason}"
    if refused.code == PROHIBITED:
        return (
            f"the jump host {jump} does not forward to {host}:{port} ({refused.text}): "
            "allow it by AllowTcpForwarding and PermitOpen in its sshd_config"
        )
    advice = next((advice for words, advice in BEYOND if words in refused.text.lower()), f"try 'nc -v {host} {port}' there")
    return f"the jump host {jump} can't reach {host}:{port}: {refused.text}: {advice}"


def _name(host: str, exc: NameFaultError, seconds: float) -> str:  # noqa: PLR0911 - one for each kind
    """Why there is no address for a name."""
    cause = exc.__cause__
    if isinstance(cause, TimeoutError):
        return f"the host name {host} could not be resolved within {seconds:g} s: check that the DNS server in /etc/resolv.conf is reachable, or give an address"
    if not host.strip():
        return "there is no host name: set host in devices.toml, or HostName in ~/.ssh/config"
    if isinstance(cause, ValueError) or any(len(label) > LONGEST_LABEL for label in host.split(".")):
        return f"'{host}' is not a valid host name ({cause}): correct host in devices.toml, or HostName in ~/.ssh/config"
    if "%" in host:
        return f"the address {host} names the network interface '{host.partition('%')[2]}', which does not exist on this machine: 'ip link' lists the interfaces"
    if isinstance(cause, socket.gaierror):
        if cause.errno == socket.EAI_SYSTEM:
            return f"the host name {host} could not be resolved: {cause.strerror}: check this machine's memory and its resolver"
        what, advice = NAMES.get(cause.errno or 0, NO_ADDRESS)
        return f"the host name {host} {what} ({cause.strerror}): {advice}"
    return f"the host name {host} could not be resolved: {cause}"


def _unreachable(exc: UnreachableError, device: Device, where: str) -> str:
    """Why none of a host's addresses could be connected to."""
    told = [(address, *_fault(fault, device)) for address, fault in exc.faults]
    if len(told) == 1:
        ((address, what, advice),) = told
        shown = where if address == device.host else f"{where} ({address})"
        code = exc.faults[0][1].errno
        if code in {errno.EHOSTUNREACH, errno.EHOSTDOWN}:
            return f"no route to {shown}: {advice}"
        if code == errno.ETIMEDOUT:
            return f"no answer from {shown} within {device.connect_time:g} s: {advice}"
        return f"{shown} {what}: {advice}" if code in {errno.ECONNREFUSED, errno.ECONNRESET} else f"{shown}: {what}: {advice}"
    codes = [fault.errno for _, fault in exc.faults]
    telling = next((code for code in TELLING if code in codes), codes[0])
    listed = ", ".join(f"{address} ({what})" for address, what, _ in told[:MOST_ADDRESSES])
    more = f" and {len(told) - MOST_ADDRESSES} more" if len(told) > MOST_ADDRESSES else ""
    return f"none of the {len(told)} addresses of {where} could be connected to: {listed}{more}; {told[codes.index(telling)][2]}"


def _fault(fault: OSError, device: Device) -> tuple[str, str]:
    """What went wrong with an address, and the next step."""
    code = fault.errno or 0
    what, advice = REACHED.get(code, (str(fault.strerror or fault), "check host and port in devices.toml or ~/.ssh/config"))
    if code == errno.ECONNREFUSED and device.emulated is not None:
        advice = "has the board's emulator ended? harness board list"
    if code == errno.ETIMEDOUT:
        what += f" within {device.connect_time:g} s"
    if code == errno.EINVAL and str(device.host).lower().startswith("fe80:"):
        what, advice = (
            "a link-local address needs its network interface",
            f"write {device.host}%eth0, with the interface's own name",
        )
    return what, advice


def _greeting(exc: GreetingError, where: str, seconds: float) -> str:
    """Why there was no SSH version."""
    heard = exc.heard
    if "Not allowed at this time" in heard:
        return f"{where} said '{heard}': its sshd refuses this machine for some time after failed logins (PerSourcePenalties): wait a few minutes, and check user and identity_file"
    if "MaxStartups" in heard:
        return f"{where} said '{heard}': too many logins are in progress there (MaxStartups in its sshd_config): try again later"
    if heard.startswith("HTTP/"):
        return f"{where} is a web server, not an SSH server (it said '{heard}'): correct port in devices.toml or Port in ~/.ssh/config"
    if heard:
        return f"{where} did not begin as an SSH server does; it said '{heard}': check host and port, and whether the server blocks this machine"
    if exc.silent:
        return f"{where} gave no SSH greeting within {seconds:g} s: is it an SSH server, and is it overloaded?"
    return f"{where} closed the connection before any greeting: it is not an SSH server, has too many connections, or blocks this machine"


def _algorithms(exc: AlgorithmError, where: str) -> str:
    """What the server offers, what is supported here, and what to do."""
    told = [
        f"no {lack.kind} algorithm in common: the server offers {_listed(lack.theirs)}, and the harness supports {_listed(lack.ours)}"
        for lack in exc.lacking
    ]
    # sshd and clients of today refuse them for good reason.
    old = " (RSA signatures with SHA-1 are no longer secure)" if any(_sha1(lack) for lack in exc.lacking) else ""
    remedies = dict.fromkeys(REMEDY[lack.kind] for lack in exc.lacking)
    return f"{where} has {'; '.join(told)}{old}: {'; '.join(remedies)}"


def _sha1(lack: Lack) -> bool:
    return lack.kind == "host key" and lack.theirs == ("ssh-rsa",)


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return (", ".join(names[:MOST_NAMES]) or "none") + more
