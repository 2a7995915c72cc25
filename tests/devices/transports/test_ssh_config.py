"""What the user's ssh_config says counts: what is read of it, and real OpenSSH servers reached by it, hop by hop."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.devices import registry
from harness.devices.link import Link
from harness.devices.transports import ssh_config
from harness.devices.transports.proxy import ProxyCommand
from harness.errors import AuthenticationError, ConnectError, EntryError, HostKeyError, RegistryError, UsageError
from tests.conftest import ROOT
from tests.sshd import SshServer

RELAY = """\
import os, select, socket, sys
there = socket.create_connection((sys.argv[1], int(sys.argv[2])))
print("relayed", file=open(sys.argv[3], "a"))
while True:
    for ready in select.select([0, there], [], [])[0]:
        data = os.read(0, 65536) if ready == 0 else there.recv(65536)
        if not data:
            sys.exit()
        there.sendall(data) if ready == 0 else os.write(1, data)
"""


def config(text: str) -> None:
    folder = Path.home() / ".ssh"
    folder.mkdir(exist_ok=True)
    (folder / "config").write_text(text)


def known_hosts(*servers: SshServer, name: str = "known_hosts") -> Path:
    path = Path.home() / ".ssh" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"[127.0.0.1]:{server.port} {server.host_key}\n" for server in servers))
    return path


def block(alias: str, server: SshServer, *more: str) -> str:
    lines = [f"HostName 127.0.0.1\nUser {server.user}\nPort {server.port}\nIdentityFile {server.identity}", *more]
    return f"Host {alias}\n" + "\n".join(lines) + "\n"


def link(entry: str) -> Link:
    Path("devices.toml").write_text(entry)
    return Link(registry.load().get("board"))


def reached(entry: str) -> str:
    board = link(entry)
    try:
        return str(board.probe()["event"])
    finally:
        board.close()


def logins(server: SshServer) -> int:
    return (server.folder / "log").read_text().count("Accepted publickey")


# What is read of it


def test_a_host_that_the_file_does_not_know_is_a_name() -> None:
    found = ssh_config.route("board.lab")
    assert (found.host, found.port, found.user, found.key_name) == ("board.lab", 22, None, "board.lab")
    assert (found.jump, found.command, found.known_hosts, found.strict) == ((), None, (), "ask")


def test_user_and_port_given_win_over_the_file() -> None:
    config("Host rpi\nHostName 10.0.0.7\nUser pi\nPort 2222\n")
    assert (ssh_config.route("rpi").user, ssh_config.route("rpi").port) == ("pi", 2222)
    found = ssh_config.route("rpi", "bench", 23)
    assert (found.host, found.user, found.port, found.key_name) == ("10.0.0.7", "bench", 23, "[10.0.0.7]:23")
    assert ssh_config.route("root@rpi:24").user == "root"


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("board", (None, "board", None)),
        ("pi@board:2222", ("pi", "board", 2222)),
        ("ssh://pi@board:2222/", ("pi", "board", 2222)),
        ("fe80::1", (None, "fe80::1", None)),
        ("pi@[fe80::1]:22", ("pi", "fe80::1", 22)),
    ],
)
def test_hosts_are_taken_apart(spec: str, parts: tuple[str | None, str, int | None]) -> None:
    assert ssh_config.split(spec) == parts


@pytest.mark.parametrize("spec", ["", "pi@", "board:ssh", "two words", "board\nProxyCommand x"])
def test_what_is_no_host_is_refused(spec: str) -> None:
    with pytest.raises(UsageError, match=r"is not a host: (write \[USER@\]HOST\[:PORT\]|its port must be a number)"):
        ssh_config.split(spec)


def test_included_files_count_where_they_are_included() -> None:
    config("Host other\nUser nobody\nInclude boards/*.conf\nPort 9\nHost *\nUser last\n")
    (Path.home() / ".ssh" / "boards").mkdir()
    (Path.home() / ".ssh" / "boards" / "a.conf").write_text("Host rpi\nHostName 10.0.0.7\n")
    (Path.home() / ".ssh" / "boards" / "b.conf").write_text("IdentitiesOnly yes\n")
    found = ssh_config.route("rpi")
    # As in ssh, what is included under another host's line does not count, whatever its own lines say.
    assert (found.host, found.user, found.port, found.only) == ("rpi", "last", 22, False)
    assert ssh_config.route("other").only
    assert ssh_config.route("other").port == 9


@pytest.mark.parametrize(
    "line",
    [
        "Include ~nobody-of-this-name/config",
        "Include # later",
        "UserKnownHostsFile # later",
        "GlobalKnownHostsFile #later",
        "Host # rpi\nPort many\nHost rpi",
        'Match !host rpi ""\nPort many\nHost rpi',
    ],
)
def test_lines_that_say_nothing_to_ssh_say_nothing(line: str) -> None:
    mine = known_hosts()
    config(f"{line}\nHostName 10.0.0.7\n")
    found = ssh_config.route("rpi")
    assert (found.host, found.port, found.known_hosts[0]) == ("10.0.0.7", 22, mine)


@pytest.mark.parametrize(
    ("written", "usual"),
    [
        ("127.1", "127.0.0.1"),
        ("0x7f.0.0.1", "127.0.0.1"),
        ("FD00:0:0:0::1", "fd00::1"),
        ("::ffff:10.0.0.7", "::ffff:10.0.0.7"),
        ("127.1.lab", "127.1.lab"),
        ("fe80::1%nosuch0", "fe80::1%nosuch0"),
    ],
)
def test_an_address_is_known_by_its_usual_form(written: str, usual: str) -> None:
    config(f"Host rpi\nHostName {written.replace('%', '%%')}\nPort 2222\nProxyCommand nc %h\n")
    found = ssh_config.route("rpi")
    assert (found.host, found.key_name, found.command) == (usual, f"[{usual}]:2222", f"nc {usual}")
    assert ssh_config.route(f"[{written}]").host == usual


def test_a_match_exec_that_does_not_end_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.devices.transports.ssh_match.EXEC_SECONDS", 0.2)
    config('Match exec "sleep 60"\nUser pi\n')
    with pytest.raises(UsageError, match=r"config:1: Match exec 'sleep 60' did not end within 0\.2 s: make the command faster"):
        ssh_config.route("rpi")


def test_files_whose_names_are_too_long_are_passed_over() -> None:
    mine = known_hosts()
    long = f"/tmp/{'n' * 300}"
    config(f"UserKnownHostsFile {long} {mine}\nCertificateFile {long}\nIdentityFile {long}\n")
    found = ssh_config.route("rpi")
    assert found.certificate_files == ()
    assert mine in found.known_hosts


# It becomes another user with all imported: this machine's Python may be one that others can't read.
FORBIDDEN = """\
import encodings.idna, os, sys
import harness.devices.link, harness.devices.transports.route, harness.crash
from harness.devices import registry
from harness.errors import HarnessError, RegistryError
known = registry.load()
os.setgroups([]); os.setgid(54321); os.setuid(54321)
try:
    way = harness.devices.transports.route.ssh_connection(known.get("board"))
    try:
        way.open()
        print("connected")
    finally:
        way.close()
except HarnessError as exc:
    print(type(exc).__name__, exc)
"""


@pytest.mark.ssh
@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to take on another user's number")
@pytest.mark.parametrize("there", ["closed/file", "unreadable"])
def test_files_that_this_account_may_not_read_are_passed_over_as_by_ssh(sshd: SshServer, there: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        (place / "closed").mkdir(mode=0o700)
        key = place / "key"
        key.write_bytes(sshd.identity.read_bytes())
        key.chmod(0o644)
        for file in ("closed/file", "unreadable"):
            (place / file).touch(mode=0o600)
        mine = place / "known"
        (place / ".ssh").mkdir()
        bad = place / there

        def tried(known: str, more: str = "") -> str:
            text = f"UserKnownHostsFile {bad} {mine}\nGlobalKnownHostsFile {bad}\nCertificateFile {bad}\nIdentityFile {bad}\n"
            (place / ".ssh" / "config").write_text(f"Host rpi\nHostName 127.0.0.1\nPort {sshd.port}\n{text}IdentityFile {key}\n")
            mine.write_text(known)
            (place / "devices.toml").write_text(f'[board]\nhost = "rpi"\nuser = "{sshd.user}"\n{more}')
            environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "HOME": name, "QUANT_HARNESS_HOME": name}
            words = [sys.executable, "-c", FORBIDDEN]
            done = subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True, check=False)
            return (done.stdout or done.stderr).strip()

        assert tried(f"[127.0.0.1]:{sshd.port} {sshd.host_key}\n") == "connected"
        told = tried("")
        assert told.startswith("UnknownHostKeyError board: connect: unknown host key"), told
        assert f"{bad} can't be read: Permission denied" in told
        if there != "unreadable":
            told = tried("", f'identity_file = "{bad}"\n')
            assert told.startswith(f"EntryError board: entry: devices.toml:4: identity_file {bad}: can't be read: Permission"), (
                told
            )


@pytest.mark.ssh
@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to take on another user's number")
@pytest.mark.parametrize("name", ["", "somebody"])
def test_who_logs_in_where_nothing_names_a_user(sshd: SshServer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # As ssh does it, who is in passwd logs in by that name, whatever the environment says.
    for key in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(key, name)
    config(f"Host rpi\nHostName 127.0.0.1\nPort {sshd.port}\n")
    known_hosts(sshd)
    with pytest.raises(AuthenticationError, match="refused the login of user 'root'"):
        link(f'[board]\nhost = "rpi"\nidentity_file = "{sshd.identity}"\n')
    environment = {key: value for key, value in os.environ.items() if key != "QUANT_HARNESS_HOME"}
    words = [sys.executable, "-c", FORBIDDEN]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o755)
        shutil.copytree(Path.home() / ".ssh", place / ".ssh")
        identity = place / "key"
        identity.write_bytes(sshd.identity.read_bytes())
        identity.chmod(0o644)
        (place / "devices.toml").write_text(f'[board]\nhost = "rpi"\nidentity_file = "{identity}"\n')
        environment |= {"HOME": folder, "PYTHONPATH": str(ROOT), "QUANT_HARNESS_HOME": folder}
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    told = "refused the login of user 'somebody'" if name else "has no name to log in with: set user in devices.toml"
    assert told in done.stdout, done.stdout + done.stderr


def test_files_that_include_each_other_end() -> None:
    config("Include config\n")
    with pytest.raises(UsageError, match=r"\.ssh/config: can't be read: more than 16 files include each other"):
        ssh_config.route("rpi")


@pytest.mark.parametrize("text", ["Host rpi\nPort many\n", "Match all user x\n", 'Host "rpi\n'])
def test_a_file_that_can_not_be_followed_is_named(text: str) -> None:
    config(text)
    with pytest.raises(UsageError, match=r"\.ssh/config"):
        ssh_config.route("rpi")


def test_jump_or_command_the_first_counts_and_none_is_none() -> None:
    config(
        "Host a\nProxyCommand nc %h %p\nProxyJump gate\nHost b\nProxyJump one, pi@two:23\nProxyCommand nc %h %p\n"
        "Host c\nProxyJump none\nHost d\nProxyCommand none\nHost *\nProxyJump gate\n"
    )
    assert [ssh_config.route(alias).jump for alias in "abcd"] == [(), ("one", "pi@two:23"), (), ()]
    assert [ssh_config.route(alias).command for alias in "abcd"] == ["nc a 22", None, None, None]
    assert ssh_config.route("e").jump == ("gate",)


def test_known_hosts_of_the_file_count_where_they_are() -> None:
    mine = known_hosts(name="mine")
    config("Host rpi\nHostKeyAlias board7\nPort 2222\nUserKnownHostsFile ~/.ssh/none %d/.ssh/mine\nGlobalKnownHostsFile none\n")
    found = ssh_config.route("rpi")
    assert (found.known_hosts, found.key_name) == ((mine,), "board7")


@pytest.mark.parametrize(
    "line",
    [
        "Match Host other",
        "match HOST=other",
        "Match !host rpi",
        "Match nosuch x",
        "Match !nosuch x",
        "Match localnetwork 127.0.0.0/8",
        "Match tagged x",
        "Match sessiontype shell",
        "Match final host other",
        'Match exec "false"',
        "Host other !rpi",
    ],
)
def test_lines_for_other_hosts_do_not_count(line: str, caplog: pytest.LogCaptureFixture) -> None:
    config(f"{line}\nHostName 10.9.9.9\nPort many\nHost rpi\nHostName 10.0.0.7\n")
    assert ssh_config.route("rpi").host == "10.0.0.7"
    unknown = any(word in line for word in ("nosuch", "localnetwork"))
    assert [str(Path.home() / ".ssh/config:1: Match") in note for note in caplog.messages] == [True] * unknown


@pytest.mark.parametrize(
    "line", ["Match host=rpi", "Match final all", "Match ALL # all", "Match exec true", "Match host rpi user pi"]
)
def test_lines_that_ssh_takes_count(line: str) -> None:
    folder = Path.home() / ".ssh"
    folder.mkdir(exist_ok=True)
    text = f"# gr\xfc\xdfe\n{line}\nHostName 10.0.0.7 # comment\nIdentityFile ${{HOME}}/key\n"
    (folder / "config").write_bytes(text.encode("latin-1"))
    found = ssh_config.route("rpi", "pi")
    # As in ssh, the second reading is too late for HostName.
    assert found.host == ("rpi" if "final" in line else "10.0.0.7")
    assert found.identities == (Path.home() / "key",)


@pytest.mark.parametrize(
    "line", ["Port many", "IdentitiesOnly maybe", 'User "pi', "HostName %q", "IdentityFile ${NOT_SET_HERE}", "User a b"]
)
def test_a_damaged_line_concerns_whom_it_applies_to_and_names_its_place(line: str) -> None:
    config(f"Host rpi\n{line}\nHost other\nUser pi\n")
    with pytest.raises(UsageError, match=r"\.ssh/config:2: "):
        ssh_config.route("rpi")
    assert ssh_config.route("other").user == "pi"


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to take on another user's number")
@pytest.mark.parametrize("names", [{}, {"USER": "bench"}])
def test_a_user_who_is_not_in_passwd_needs_no_name(names: dict[str, str]) -> None:
    # It becomes that user with all imported: this machine's Python may be one that others can't read.
    code = (
        "import os, sys; from harness.devices.transports import ssh_config; os.setuid(54321); r = ssh_config.route('rpi', sys.argv[1] or None);"
        "print(r.host, r.port, r.user)"
    )
    root = str(Path(ssh_config.__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", code, "pi"],
        env={"PYTHONPATH": root, "PATH": os.environ["PATH"]} | names,
        capture_output=True,
        check=False,
    )
    assert done.stdout.decode().split() == ["rpi", "22", "pi"], done.stderr.decode()


# Real servers


@pytest.mark.ssh
def test_what_is_said_of_another_machine_takes_nobody_there(sshd: SshServer) -> None:
    known_hosts(sshd)
    text = "Match Host other\n HostName 127.0.0.9\nMatch localnetwork 127.0.0.0/8\n Port 9\n" + block("rpi", sshd)
    (Path.home() / ".ssh" / "config").write_bytes(
        f"# gr\xfc\xdfe\n{text}".encode("latin-1").replace(b"127.0.0.1\n", b"127.0.0.1 # here\n")
    )
    assert reached('[board]\nhost = "rpi"\n') == "facts"


@pytest.fixture(scope="module")
def gates() -> Iterator[tuple[SshServer, SshServer]]:
    """Two more servers, to go through."""
    if (reason := SshServer.lacking()) is not None:
        pytest.skip(reason)
    with SshServer() as first, SshServer() as second:
        yield first, second


@pytest.mark.ssh
def test_an_alias_with_its_host_user_port_and_key(sshd: SshServer) -> None:
    config(block("rpi", sshd))
    known_hosts(sshd)
    assert reached(f'[board]\nhost = "rpi"\npython = "{sshd.python}"\n') == "facts"


@pytest.mark.ssh
def test_keys_of_devices_toml_win(sshd: SshServer) -> None:
    config("Host 127.0.0.1\nUser nobody\nPort 1\nIdentityFile /none\nUserKnownHostsFile /none\n")
    assert reached(sshd.entry("board")) == "facts"


@pytest.mark.ssh
def test_an_identity_file_that_is_not_there_is_passed_over(sshd: SshServer) -> None:
    config(f"IdentityFile /none/key\n{block('rpi', sshd)}")
    known_hosts(sshd)
    assert reached(f'[board]\nhost = "rpi"\npython = "{sshd.python}"\n') == "facts"


@pytest.mark.ssh
def test_a_proxy_jump_over_two_hosts_goes_through_both(sshd: SshServer, gates: tuple[SshServer, SshServer]) -> None:
    first, second = gates
    config(block("gate1", first) + block("gate2", second) + block("rpi", sshd, "ProxyJump gate1,gate2"))
    known_hosts(sshd, first, second)
    before = logins(first), logins(second)
    assert reached(f'[board]\nhost = "rpi"\npython = "{sshd.python}"\n') == "facts"
    assert (logins(first), logins(second)) == (before[0] + 1, before[1] + 1)


@pytest.mark.ssh
def test_hops_come_in_the_order_of_the_file(sshd: SshServer, gates: tuple[SshServer, SshServer]) -> None:
    first, second = gates
    config(block("gate1", first) + block("gate2", second) + block("rpi", sshd, "ProxyJump gate1,gate2"))
    known_hosts(sshd, second)
    with pytest.raises(HostKeyError, match=rf"at the jump host .*at the jump host 127\.0\.0\.1:{first.port}: unknown host key"):
        link('[board]\nhost = "rpi"\n')


@pytest.mark.ssh
@pytest.mark.parametrize("unknown", [0, 1])
def test_an_unknown_key_of_any_hop_is_refused(sshd: SshServer, gates: tuple[SshServer, SshServer], unknown: int) -> None:
    config(block("gate1", gates[0]) + block("gate2", gates[1]) + block("rpi", sshd, "ProxyJump gate1,gate2"))
    known_hosts(sshd, gates[1 - unknown])
    before = logins(gates[unknown])
    with pytest.raises(
        HostKeyError,
        match=rf"board: connect: on the way there, at the jump host .*unknown host key of .*{gates[unknown].port}: .*harness device add gate{unknown + 1} gate{unknown + 1}",
    ):
        link('[board]\nhost = "rpi"\n')
    assert logins(gates[unknown]) == before


@pytest.mark.ssh
def test_the_key_of_a_hop_may_be_in_devices_toml(sshd: SshServer, gates: tuple[SshServer, SshServer]) -> None:
    config(block("gate1", gates[0]) + block("rpi", sshd, "ProxyJump gate1"))
    known_hosts(sshd)
    gate = f'[gate]\nhost = "gate1"\nhost_key = "{gates[0].host_key}"\n'
    assert reached(f'{gate}[board]\nhost = "rpi"\npython = "{sshd.python}"\n') == "facts"


@pytest.mark.ssh
def test_a_jump_host_for_all_is_reached_without_itself(sshd: SshServer, gates: tuple[SshServer, SshServer]) -> None:
    config(block("gate1", gates[0]) + block("rpi", sshd) + "Host *\nProxyJump gate1\n")
    known_hosts(sshd, gates[0])
    assert reached(f'[board]\nhost = "rpi"\npython = "{sshd.python}"\n') == "facts"


def test_jump_hosts_that_go_in_a_circle_are_refused() -> None:
    config("Host a\nProxyJump b\nHost b\nProxyJump a\n")
    with pytest.raises(EntryError, match="goes in a circle"):
        link('[board]\nhost = "a"\n')
    with pytest.raises(RegistryError, match=r"devices\.toml:\d: 'gate\.jump' goes in a circle: board → gate → board"):
        link('[board]\nhost = "x"\njump = "gate"\n[gate]\nhost = "y"\njump = "board"\n')
    with pytest.raises(RegistryError, match=r"'board\.jump': 'local' is not another device"):
        link('[board]\nhost = "x"\njump = "local"\n')


@pytest.mark.ssh
def test_jump_of_devices_toml_over_two_hosts(sshd: SshServer, gates: tuple[SshServer, SshServer]) -> None:
    first, second = gates
    entries = first.entry("gate1") + second.entry("gate2", jump="gate1") + sshd.entry("board", jump="gate2")
    before = logins(first), logins(second)
    assert reached(entries) == "facts"
    assert (logins(first), logins(second)) == (before[0] + 1, before[1] + 1)
    entries = first.entry("gate1", host_key="") + second.entry("gate2", jump="gate1") + sshd.entry("board", jump="gate2")
    with pytest.raises(HostKeyError, match=r"unknown host key of .*harness device trust gate1"):
        link(entries)


@pytest.mark.ssh
def test_a_jump_host_that_can_not_reach_the_board(sshd: SshServer) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(
        ConnectError, match=rf"board: connect: the jump host 127\.0\.0\.1:{sshd.port} can't reach 127\.0\.0\.1:{port}"
    ):
        link(sshd.entry("gate") + sshd.entry("board", jump="gate", port=port))


@pytest.mark.ssh
def test_a_proxy_command_carries_the_connection_and_is_ended(sshd: SshServer, tmp_path: Path) -> None:
    (tmp_path / "relay.py").write_text(RELAY)
    command = f"{sys.executable} {tmp_path}/relay.py %h %p {tmp_path}/relayed"
    config(block("rpi", sshd, f"ProxyCommand {command}"))
    known_hosts(sshd)
    assert reached(f'[board]\nhost = "rpi"\npython = "{sshd.python}"\n') == "facts"
    assert (tmp_path / "relayed").read_text() == "relayed\n"
    left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path / "relay.py").encode() in read(path)]
    assert left == []


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_proxy_command_that_fails_says_how() -> None:
    config("Host rpi\nProxyCommand sh -c 'echo no way to %h >&2; exit 3'\n")
    with pytest.raises(ConnectError, match=r"board: connect: ProxyCommand 'sh -c .*' ended with exit code 3: no way to rpi"):
        link('[board]\nhost = "rpi"\n')


@pytest.mark.ssh
def test_user_known_hosts_file_and_host_key_alias(sshd: SshServer) -> None:
    entry = f'[board]\nhost = "rpi"\npython = "{sshd.python}"\n'
    config(block("rpi", sshd, "UserKnownHostsFile ~/.ssh/lab"))
    known_hosts(sshd)
    with pytest.raises(HostKeyError, match="unknown host key"):
        link(entry)
    known_hosts(sshd, name="lab")
    assert reached(entry) == "facts"
    config(block("rpi", sshd, "HostKeyAlias board7"))
    with pytest.raises(HostKeyError, match="unknown host key"):
        link(entry)
    (Path.home() / ".ssh" / "known_hosts").write_text(f"board7 {sshd.host_key}\n")
    assert reached(entry) == "facts"


@pytest.mark.ssh
@pytest.mark.parametrize("checking", ["no", "accept-new", "off"])
def test_an_unknown_key_is_never_accepted(sshd: SshServer, checking: str) -> None:
    config(block("rpi", sshd, f"StrictHostKeyChecking {checking}", "UserKnownHostsFile /dev/null"))
    with pytest.raises(HostKeyError, match=f"unknown host key .*StrictHostKeyChecking {checking} in ssh_config has no effect"):
        link('[board]\nhost = "rpi"\n')


@pytest.mark.ssh
def test_a_revoked_key_and_one_of_several(sshd: SshServer) -> None:
    path = known_hosts(sshd)
    old = f"[127.0.0.1]:{sshd.port} {sshd.public('other_key')}\n"
    path.write_text(old + path.read_text())
    assert reached(sshd.entry("board", host_key="")) == "facts"
    path.write_text(path.read_text() + f"@revoked * {sshd.host_key}\n")
    with pytest.raises(HostKeyError, match="is revoked in known_hosts"):
        link(sshd.entry("board", host_key=""))


def test_a_proxy_command_that_lingers_is_ended() -> None:
    proxy = ProxyCommand("sleep 60")
    proxy.close()
    assert proxy._process.returncode == -15
    assert not proxy.failed
