"""Names and addresses that do not lead to a server, in a network made for it: each has words of its own, and none is waited for without end."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.devices.transports import addresses
from tests.network import DISCARDED, FORBIDDEN, NO_ROUTE, OFF, OWN, SILENT, SILENT_V6, Network
from tests.sshd import SshServer

HOSTS = (
    f"{SILENT} half",
    f"{OWN} half",
    f"{SILENT_V6} mixed",
    f"{OWN} mixed",
    f"{NO_ROUTE} apart",
    f"{OWN} apart",
    f"{SILENT} none",
    f"{NO_ROUTE} none",
)


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    """A network of its own, without a DNS server."""
    if (reason := Network.lacking()) is not None:
        pytest.skip(reason)
    with Network(*HOSTS) as made:
        yield made


@pytest.fixture(scope="module")
def server(net: Network) -> Iterator[SshServer]:
    """An OpenSSH server in that network."""
    if (reason := SshServer.lacking()) is not None:
        pytest.skip(reason)
    made = SshServer()
    made.network = net.name
    made.lines = (f"ListenAddress {OWN}",)
    with made:
        yield made


def entry(name: str, host: str, **other: object) -> str:
    keys = {"host": f'"{host}"', "user": '"root"', "connect_time": 1, **other}
    return "\n".join([f"[{name}]", *(f"{key} = {value}" for key, value in keys.items()), ""])


WORDS = {
    "silent": (SILENT, "no answer from 10.99.0.7:22 within 1 s: is it switched on"),
    "silent6": (SILENT_V6, "no answer from [fd99::7]:22 within 1 s: is it switched on"),
    "refused": (OWN, f"{OWN}:22 refused the connection: is sshd running there?"),
    "elsewhere": (NO_ROUTE, f"{NO_ROUTE}:22: this machine has no route to its network: is this machine's own network"),
    "forbidden": (FORBIDDEN, f"{FORBIDDEN}:22: this machine forbids the connection: check this machine's firewall"),
    "discarded": (DISCARDED, f"{DISCARDED}:22: Invalid argument"),
    "bare": ("fe80::5", "a link-local address needs its network interface: write fe80::5%eth0"),
    "scope": ("fe80::5%none", "names the network interface 'none', which does not exist on this machine"),
    "temporary": ("nx.invalid", "could not be resolved: no DNS server answers"),
    "dots": ("a..b", "is not a valid host name"),
    "long": (f"{'a' * 64}.example", "is not a valid host name"),
    "none": ("none", "none of the 2 addresses of none:22 could be connected to: "),
}  # fmt: skip


@pytest.mark.faults
def test_each_way_not_to_get_there_has_its_words(net: Network) -> None:
    said = net.connect("".join(entry(name, host) for name, (host, _) in WORDS.items()))
    wrong = {name: said[name][0] for name, (_, words) in WORDS.items() if words not in said[name][0]}
    assert wrong == {}
    assert [words for words, _ in said.values() if not words.startswith("ConnectError: ")] == []
    for fault in (f"{SILENT} (no answer within 1 s)", f"{NO_ROUTE} (this machine has no route to its network)"):
        assert fault in said["none"][0]
    assert max(seconds for _, seconds in said.values()) < 20


@pytest.mark.faults
def test_a_board_without_power(net: Network) -> None:
    said, _ = net.connect(entry("board", OFF, connect_time=10))["board"]
    assert said == f"ConnectError: board: connect: no route to {OFF}:22: is it switched on, and is its network cable plugged in?"


@pytest.mark.ssh
@pytest.mark.faults
def test_all_addresses_of_a_name_are_tried(net: Network, server: SshServer) -> None:
    said = net.connect(
        server.entry("half", host="half")
        + server.entry("mixed", host="mixed")
        + server.entry("apart", host="apart")
        + server.entry("gate", host="half")
        + server.entry("jumped", host=OWN, jump="gate")
    )
    assert {name: words for name, (words, _) in said.items()} == dict.fromkeys(said, "connected")


JUMPED = {
    "closed": (OWN, 1, f"can't reach {OWN}:1: Connection refused: is sshd running there?"),
    "off": (OFF, 22, f"can't reach {OFF}:22: No route to host: is it switched on, and is its network cable plugged in?"),
    "silent": (SILENT, 22, f"can't reach {SILENT}:22: no answer within 5 s: is it switched on"),
    "name": ("nx.invalid", 22, "give an address, or a name that the jump host knows"),
    "elsewhere": (NO_ROUTE, 22, f"can't reach {NO_ROUTE}:22: open failed: try 'nc -v {NO_ROUTE} 22' there"),
}


@pytest.mark.ssh
@pytest.mark.faults
def test_behind_a_jump_host_each_way_has_its_words(net: Network, server: SshServer) -> None:
    entries = [server.entry(name, host=host, port=port, jump="gate", connect_time=5) for name, (host, port, _) in JUMPED.items()]
    said = net.connect(server.entry("gate", host=OWN) + "".join(entries))
    wrong = {name: said[name][0] for name, (_, _, words) in JUMPED.items() if words not in said[name][0]}
    assert wrong == {}
    for name in JUMPED:
        assert said[name][0].startswith(f"ConnectError: {name}: connect: the jump host {OWN}:{server.port} ")


@pytest.mark.ssh
@pytest.mark.faults
def test_the_family_and_the_source_that_ssh_config_names(net: Network, server: SshServer) -> None:
    folder = Path.home() / ".ssh"
    folder.mkdir()
    (folder / "config").write_text(
        "Host four\nAddressFamily inet\nHost six\nAddressFamily inet6\n"
        f"Host here\nBindAddress {OWN}\nHost far\nBindAddress 192.0.2.1\nHost four six here far\nHostName mixed\n"
    )
    said = net.connect("".join(server.entry(name, host=name, connect_time=1) for name in ("four", "six", "here", "far")))
    assert said["four"][0] == said["here"][0] == "connected"
    assert f"no answer from mixed:{server.port} ({SILENT_V6}) within 1 s" in said["six"][0]
    assert f"{OWN} (this machine has no address or port to connect from); check its network, and BindAddress" in said["far"][0]


@pytest.mark.ssh
@pytest.mark.faults
def test_a_jump_host_that_forwards_nothing(net: Network) -> None:
    if (reason := SshServer.lacking()) is not None:
        pytest.skip(reason)
    closed = SshServer()
    closed.network, closed.lines = net.name, (f"ListenAddress {OWN}", "AllowTcpForwarding no")
    with closed:
        said, _ = net.connect(closed.entry("gate", host=OWN) + closed.entry("board", host=OWN, jump="gate"))["board"]
    assert "does not forward to" in said
    assert "AllowTcpForwarding" in said


@pytest.mark.faults
@pytest.mark.parametrize(
    ("code", "words"),
    [
        (3, "nx.example is not known (Name or service not known): check its spelling"),
        (0, "nx.example has no address of the required kind (IPv4 or IPv6)"),
        (2, "nx.example could not be resolved: no DNS server answers"),
    ],
)
def test_what_a_dns_server_answers_is_told_apart(code: int, words: str) -> None:
    if (reason := Network.lacking()) is not None:
        pytest.skip(reason)
    with Network(resolver="nameserver 127.0.0.1\n") as net, net.names(code):
        said, _ = net.connect(entry("board", "nx.example"))["board"]
    assert words in said


def test_a_process_without_file_descriptors(net: Network) -> None:
    code = (
        "import os, resource, sys; from harness.devices.transports import addresses;"
        "found = addresses.resolve(sys.argv[1], 22, 5); addresses.resolve = lambda *_: found;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (os.open('/', 0), 100))\n"
        "try: addresses.connect(sys.argv[1], 22, 5)\n"
        "except addresses.UnreachableError as exc: print(exc.faults[0][1].errno)"
    )
    done = net.python(code, OWN)
    assert done.stdout.split() == [str(errno.EMFILE)], done.stderr


def test_an_address_that_answers_late_does_not_hold_up_the_next(net: Network) -> None:
    # Whatever order the system prefers: the silent one alone would take the whole time.
    code = (
        "import socket, sys, time; from harness.devices.transports import addresses; addresses.DELAY_SECONDS = 0.2; server = socket.create_server((sys.argv[1], 0));"
        "port = server.getsockname()[1]; begun = time.monotonic();"
        "places = [(socket.AF_INET, host, (host, port)) for host in (sys.argv[2], sys.argv[1])];"
        "print(addresses._first(places, 100, None).getpeername()[0], time.monotonic() - begun < 60)"
    )
    done = net.python(code, OWN, SILENT)
    assert done.stdout.split() == [OWN, "True"], done.stderr


@pytest.mark.parametrize("host", ["", "..", "a" * 70, "b\0c", "\udcff"])
def test_what_is_not_a_name_is_an_error_of_ours(host: str) -> None:
    with pytest.raises(addresses.NameFaultError):
        addresses.connect(host, 22, 5)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_what_is_not_a_port_is_an_error_of_ours(port: int) -> None:
    with pytest.raises(addresses.UnreachableError, match="not a TCP port"):
        addresses.connect("127.0.0.1", port, 5)


@pytest.mark.faults
def test_a_dns_server_that_does_not_answer() -> None:
    if (reason := Network.lacking()) is not None:
        pytest.skip(reason)
    with Network(resolver=f"nameserver {SILENT}\noptions timeout:30 attempts:5\n") as net:
        said, seconds = net.connect(entry("board", "board.example"))["board"]
    assert said.startswith(
        "ConnectError: board: connect: the host name board.example could not be resolved within 1 s: check that the DNS server"
    )
    # The process has ended as well: its resolver would have waited for minutes.
    assert seconds < 15


def test_no_thread_is_left_when_the_name_is_resolved() -> None:
    addresses.resolve("127.0.0.1", 22, 5)
    assert [thread for thread in threading.enumerate() if thread.name == "resolve"] == []
