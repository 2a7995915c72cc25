"""Which keys are offered: compared with what the real ssh gets in with, and what is said when none is accepted."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.devices import registry
from harness.devices.transports import identities
from harness.devices.transports.identities import UnusableError
from harness.devices.transports.ssh import SshTransport
from harness.errors import AuthenticationError
from tests.devices.transports.test_ssh_config import known_hosts
from tests.ssh_client import agent, keygen, make_key, ssh_gets_in
from tests.sshd import SshServer

pytestmark = pytest.mark.ssh


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """A server that lets in an Ed25519, an RSA and an ECDSA key, and users whom a CA certifies."""
    if (reason := SshServer.lacking()) is not None:
        pytest.skip(reason)
    keys = tmp_path_factory.mktemp("keys")
    with SshServer() as started:
        for kind in ("rsa", "ecdsa"):
            make_key(keys / kind, kind)
        make_key(keys / "ca")
        make_key(keys / "certified")
        shutil.copy(started.identity, keys / "ed25519")
        shutil.copy(started.folder / "user_key.pub", keys / "ed25519.pub")
        allowed = [(keys / f"{kind}.pub").read_text() for kind in ("ed25519", "rsa", "ecdsa")]
        (started.folder / "authorized_keys").write_text("".join(allowed))
        shutil.copy(keys / "ca.pub", started.folder / "user_ca.pub")
        started.restart(f"TrustedUserCAKeys {started.folder}/user_ca.pub")
        started.keys = keys  # type: ignore[attr-defined]
        yield started


@pytest.fixture
def keys(server: SshServer, tmp_path: Path) -> Path:
    """A folder with copies of the keys."""
    folder = tmp_path / "keys"
    shutil.copytree(server.keys, folder)  # type: ignore[attr-defined]
    return folder


def config(server: SshServer, *lines: str) -> Path:
    known = known_hosts(server)
    block = ["Host board", "HostName 127.0.0.1", f"Port {server.port}", f"User {server.user}", f"UserKnownHostsFile {known}"]
    path = known.with_name("config")
    path.write_text("\n".join([*block, *lines, ""]))
    return path


def log_in(entry: str = '[board]\nhost = "board"\nconnect_time = "5s"\n') -> None:
    Path("devices.toml").write_text(entry)
    SshTransport(registry.load().get("board")).close()


def gets_in(entry: str = '[board]\nhost = "board"\n') -> bool:
    try:
        log_in(entry)
    except AuthenticationError:
        return False
    return True


def public_only(keys: Path) -> str:
    (keys / "ed25519").unlink()
    return f"IdentityFile {keys}/ed25519.pub"


def public_beside(keys: Path) -> str:
    (keys / "ed25519").unlink()
    return f"IdentityFile {keys}/ed25519"


def of_another_name(keys: Path) -> str:
    (keys / "ed25519").unlink()
    (keys / "ed25519.pub").rename(keys / "yubikey")
    return f"IdentityFile {keys}/yubikey"


def locked(keys: Path) -> str:
    keygen("-p", "-N", "secret", "-f", keys / "ed25519")
    (keys / "ed25519.pub").unlink()
    return f"IdentityFile {keys}/ed25519"


def locked_pem(keys: Path) -> str:
    keygen("-p", "-N", "secret", "-m", "PEM", "-f", keys / "rsa")
    return f"IdentityFile {keys}/rsa"


def pkcs8(keys: Path) -> str:
    keygen("-p", "-N", "", "-m", "PKCS8", "-f", keys / "rsa")
    return f"IdentityFile {keys}/rsa"


def pem(keys: Path) -> str:
    keygen("-p", "-N", "", "-m", "PEM", "-f", keys / "ecdsa")
    return f"IdentityFile {keys}/ecdsa"


def useless_first(keys: Path) -> str:
    for name, data in {"empty": b"", "random": bytes(range(256)), "ppk": b"PuTTY-User-Key-File-3: ssh-ed25519\n"}.items():
        (keys / name).write_bytes(data)
        (keys / name).chmod(0o600)
    names = ("folder", "empty", "random", "ppk", "certified", "ed25519")
    (keys / "folder").mkdir()
    return "\n".join(f"IdentityFile {keys}/{name}" for name in names)


def certified(keys: Path) -> str:
    certify(keys)
    return f"IdentityFile {keys}/certified"


def certified_elsewhere(keys: Path) -> str:
    certify(keys)
    (keys / "certified-cert.pub").rename(keys / "mine.pub")
    return f"IdentityFile {keys}/certified\nCertificateFile {keys}/mine.pub"


def certified_not_named(keys: Path) -> str:
    certify(keys)
    (keys / "certified-cert.pub").rename(keys / "mine.pub")
    return f"IdentityFile {keys}/certified"


def certified_and_locked(keys: Path) -> str:
    certify(keys)
    keygen("-p", "-N", "secret", "-f", keys / "certified")
    return f"IdentityFile {keys}/certified"


def certified_public(keys: Path) -> str:
    certify(keys)
    (keys / "certified").unlink()
    return f"IdentityFile {keys}/certified.pub\nCertificateFile {keys}/certified-cert.pub"


def certificate_alone(keys: Path) -> str:
    certify(keys)
    (keys / "certified").unlink()
    (keys / "certified.pub").unlink()
    return f"IdentityFile {keys}/certified"


def certify(keys: Path, *more: str, user: str = "harness-test", name: str = "certified") -> None:
    keygen("-s", keys / "ca", "-I", "mine", "-n", user, *more, keys / f"{name}.pub")


def certified_rsa(keys: Path) -> str:
    make_key(keys / "mine", "rsa")
    certify(keys, name="mine")
    return f"IdentityFile {keys}/mine"


def certified_ecdsa(keys: Path) -> str:
    make_key(keys / "mine", "ecdsa", "-b", "521")
    certify(keys, name="mine")
    return f"IdentityFile {keys}/mine"


def expired(keys: Path) -> str:
    certify(keys, "-V", "20200101:20200201")
    return f"IdentityFile {keys}/certified"


def of_another_user(keys: Path) -> str:
    certify(keys, user="somebody")
    return f"IdentityFile {keys}/certified"


def of_a_host(keys: Path) -> str:
    certify(keys, "-h")
    return f"IdentityFile {keys}/certified"


# What ssh_config says; the agent's keys; whether IdentitiesOnly.
CASES = [
    (public_only, "ed25519", True),
    (public_only, "ed25519", False),
    (public_only, "rsa", True),
    (public_beside, "ed25519", True),
    (of_another_name, "rsa ecdsa ed25519", True),
    (locked, "ed25519", True),
    (locked, "certified", True),
    (locked_pem, "rsa", True),
    (pkcs8, "", True),
    (pem, "", True),
    (useless_first, "", True),
    (useless_first, "certified", False),
    (certified, "", True),
    (certified, "certified", True),
    (certified_elsewhere, "", True),
    (certified_elsewhere, "certified", False),
    (certified_not_named, "certified", False),
    (certified_and_locked, "certified", True),
    (certified_and_locked, "", True),
    (certified_public, "certified", True),
    (certificate_alone, "certified", True),
    (certified_rsa, "", True),
    (certified_ecdsa, "", True),
    (expired, "", True),
    (of_another_user, "", True),
    (of_a_host, "", True),
]


# One of each kind; the others are run with 'make test-faults'.
ALWAYS = {public_only, locked, useless_first, certified_elsewhere, certified_and_locked, of_another_user}


@pytest.mark.parametrize(
    ("prepare", "held", "only"), [pytest.param(*case, marks=() if case[0] in ALWAYS else pytest.mark.faults) for case in CASES]
)
def test_as_ssh_does(server: SshServer, keys: Path, monkeypatch: pytest.MonkeyPatch, prepare, held: str, only: bool) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    """Our login comes about where ssh's does, and only there."""
    with ExitStack() as stack:
        environment = {}
        if held:
            place = stack.enter_context(agent(*(keys / name for name in held.split())))
            monkeypatch.setenv("SSH_AUTH_SOCK", place)
            environment = {"SSH_AUTH_SOCK": place}
        path = config(server, prepare(keys), f"IdentitiesOnly {'yes' if only else 'no'}")
        assert gets_in() == ssh_gets_in("board", path, **environment)


def test_identity_file_of_devices_toml_is_a_certificate(server: SshServer, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certify(keys, user=server.user)
    log_in(server.entry("board", identity_file=str(keys / "certified")))
    log_in(server.entry("board", identity_file=str(keys / "certified-cert.pub")))
    with agent(keys / "certified") as place:
        monkeypatch.setenv("SSH_AUTH_SOCK", place)
        (keys / "certified").unlink()
        log_in(server.entry("board", identity_file=str(keys / "certified-cert.pub")))


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_a_key_with_other_line_ends_or_without_the_last(server: SshServer, keys: Path, end: str) -> None:
    for name in ("ed25519", "rsa", "ecdsa"):
        lines = (keys / name).read_text().strip().splitlines()
        (keys / name).write_text(end.join(lines), newline="")
        config(server, f"IdentityFile {keys}/{name}", "IdentitiesOnly yes")
        log_in()


def test_identity_file_of_devices_toml_is_a_public_key(server: SshServer, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with agent(keys / "rsa", keys / "ed25519") as place:
        monkeypatch.setenv("SSH_AUTH_SOCK", place)
        (keys / "ed25519").unlink()
        for name in ("ed25519.pub", "ed25519"):
            log_in(server.entry("board", identity_file=str(keys / name)))
    with pytest.raises(
        AuthenticationError, match=r"ed25519\.pub \(it is a public key, and no SSH agent holds its private part\)"
    ):
        log_in(server.entry("board", identity_file=str(keys / "ed25519.pub")))


def test_identity_agent(server: SshServer, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with agent(keys / "ed25519") as place, agent() as empty:
        monkeypatch.setenv("MY_AGENT", place)
        for named, works in {place: True, "$MY_AGENT": True, "none": False, empty: False, "SSH_AUTH_SOCK": False}.items():
            monkeypatch.setenv("SSH_AUTH_SOCK", empty if named != "none" else place)
            path = config(server, f"IdentityAgent {named}")
            assert gets_in() is works
            assert ssh_gets_in("board", path, MY_AGENT=place, SSH_AUTH_SOCK=empty if named != "none" else place) is works


def fails(server: SshServer, *lines: str) -> str:
    config(server, "IdentitiesOnly yes", *lines)
    with pytest.raises(AuthenticationError) as caught:
        log_in()
    return str(caught.value)


def test_each_key_that_was_tried_is_named_with_the_next_step(server: SshServer, keys: Path) -> None:
    made = {"folder": None, "empty": b"", "ppk": b"PuTTY-User-Key-File-3: ssh-ed25519\n", "text": b"hello\n"}
    for name, data in made.items():
        (keys / name).mkdir() if data is None else (keys / name).write_bytes(data)
    shutil.copy(keys / "ed25519", keys / "damaged")
    (keys / "damaged").write_bytes((keys / "damaged").read_bytes().replace(b"b3Bl", b"b3Bm", 1))
    keygen("-p", "-N", "secret", "-f", keys / "rsa")
    names = ("empty", "ppk", "text", "damaged", "rsa", "certified", "ed25519.pub")
    said = fails(server, *(f"IdentityFile {keys}/{name}" for name in names))
    assert f"refused the login of user '{server.user}'; tried: " in said
    for words in (
        f"{keys}/empty (it is empty)",
        f"{keys}/ppk (it is a PuTTY key: 'puttygen {keys}/ppk -O private-openssh -o NEW' converts it)",
        f"{keys}/text (it is not a private key)",
        f"{keys}/rsa (it has a passphrase: 'ssh-add {keys}/rsa' loads it into an SSH agent)",
        f"{keys}/certified (refused)",
        f"{keys}/ed25519.pub (it is a public key, and no SSH agent holds its private part: name the private key, {keys}/ed25519)",
        "it takes publickey; check user, identity_file and the device's authorized_keys",
    ):
        assert words in said
    assert f"{keys}/damaged (it is damaged" in said
    assert f"'ssh-keygen -p -f {keys}/damaged' rewrites it" in said


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (expired, "refused; the certificate expired at 2020-0"),
        (of_another_user, "refused; the certificate is for somebody, not for harness-test"),
        (of_a_host, "refused; the certificate is a host certificate, not a user certificate"),
    ],
)
def test_a_certificate_that_is_refused_says_why(server: SshServer, keys: Path, prepare, words: str) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    if server.user != "harness-test":
        pytest.skip("only root's tests log in as harness-test")
    assert words in fails(server, prepare(keys))


@pytest.mark.faults
@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
@pytest.mark.parametrize("name", ["", "-cert.pub", ".pub"])
def test_damaged_files_are_named_and_raise_nothing_else(tmp_path: Path, kind: str, name: str) -> None:
    """Each is cut short and changed in many places; a file that still signs is not damaged enough."""
    make_key(tmp_path / "ca")
    key = make_key(tmp_path / "mine", kind)
    keygen("-s", tmp_path / "ca", "-I", "x", f"{key}.pub")
    file = tmp_path / f"mine{name}"
    whole = file.read_bytes()
    drawn = random.Random(f"{kind}{name}")
    for _ in range(8):
        data = bytearray(whole)
        for _ in range(drawn.choice((1, 3, 10))):
            data[drawn.randrange(len(data))] = drawn.choice(b"AQaz09+/= \n")
        file.write_bytes(data[: drawn.choice((len(data), drawn.randrange(len(data))))])
        for identity in identities.find([key], only=True, seconds=1):
            try:
                assert identity.sign(b"data", "rsa-sha2-512")
            except UnusableError as exc:
                assert str(exc)  # noqa: PT017 - either is right


def test_a_locked_default_key_is_named(server: SshServer, keys: Path) -> None:
    default = Path.home() / ".ssh" / "id_ed25519"
    default.parent.mkdir(exist_ok=True)
    shutil.copy(keys / "ed25519", default)
    keygen("-p", "-N", "secret", "-f", default)
    config(server)
    with pytest.raises(AuthenticationError, match=rf"{default} \(it has a passphrase: 'ssh-add {default}'"):
        log_in()


def test_too_many_keys(server: SshServer, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [make_key(keys / f"key{number}") for number in range(8)]
    with agent(*many) as place:
        monkeypatch.setenv("SSH_AUTH_SOCK", place)
        path = config(server, f"IdentityFile {keys}/ed25519")
        assert not ssh_gets_in("board", path, SSH_AUTH_SOCK=place)
        with pytest.raises(
            AuthenticationError,
            match=r"hung up after 6 keys were offered \(Too many auth.*set identity_file.*IdentitiesOnly yes.*'key0'",
        ):
            log_in()
        config(server, f"IdentityFile {keys}/ed25519", "IdentitiesOnly yes")
        log_in()


def test_a_server_that_takes_no_keys(server: SshServer, keys: Path) -> None:
    lines = server.lines
    server.restart("PubkeyAuthentication no", "PasswordAuthentication yes", *lines)
    try:
        said = fails(server, f"IdentityFile {keys}/ed25519")
    finally:
        server.restart(*lines)
    assert "it takes password; set password_env in devices.toml" in said


def test_the_servers_words_are_told(server: SshServer, keys: Path) -> None:
    lines = server.lines
    banner = server.folder / "banner"
    banner.write_text("This board is reserved\nfor the nightly build.\n")
    banner.chmod(0o644)
    server.restart(f"Banner {banner}", *lines)
    try:
        said = fails(server, f"IdentityFile {keys}/certified")
    finally:
        server.restart(*lines)
    assert "it said: 'This board is reserved for the nightly build.'" in said


def test_a_key_is_not_enough(server: SshServer, keys: Path) -> None:
    lines = server.lines
    server.restart("AuthenticationMethods publickey,publickey", *lines)
    try:
        path = config(server, f"IdentityFile {keys}/ed25519", f"IdentityFile {keys}/certified", f"IdentityFile {keys}/rsa")
        assert gets_in() is ssh_gets_in("board", path) is True
        assert "accepted, but the server requires another method as well" in fails(server, f"IdentityFile {keys}/ed25519")
    finally:
        server.restart(*lines)


def test_a_key_that_is_not_there_is_named(server: SshServer, keys: Path) -> None:
    assert f"{keys}/missing (there is no such file)" in fails(server, f"IdentityFile {keys}/missing")
    config(server, f"IdentityFile {keys}/missing", f"IdentityFile {keys}/ed25519", "IdentitiesOnly yes")
    log_in()


def test_nothing_to_offer(server: SshServer) -> None:
    assert "there is no key or password to offer" in fails(server)
    assert "there is no key or password to offer" in fails(server, "IdentityFile none")


def test_what_openssl_writes(server: SshServer, keys: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    keygen("-p", "-N", "", "-m", "PEM", "-f", keys / "rsa")
    subprocess.run(["openssl", "pkcs8", "-topk8", "-in", keys / "rsa", "-out", keys / "locked", "-passout", "pass:x"], check=True)
    assert f"{keys}/locked (it has a passphrase" in fails(server, f"IdentityFile {keys}/locked")
