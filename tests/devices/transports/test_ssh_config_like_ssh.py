"""ssh_config is read as ssh reads it: random files, and what the installed ssh says of them (``ssh -G``).

Any account can run this. test_ssh_config_at_home.py needs root, and compares ``~``, ``/etc/ssh`` and what is included too.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from harness.devices.transports import ssh_config, ssh_tokens
from harness.errors import UsageError

# 4 × 60 files in each run; the environment variable asks for more.
EXAMPLES = int(os.environ.get("SSH_CONFIG_EXAMPLES", "60"))
TAKEN: list[str] = []
HOSTS = ("rpi", "RPI", "board7", "a.lab")
FILES = ("k1", "k 2", "k3")
ODD = st.sampled_from(["", "", "", " ", "\t", "  \t"])
GAP = st.sampled_from([" ", " ", " ", "\t", " = ", "=", "= ", " ="])
END = st.sampled_from(["", "", "", "", "", " ", "\r", "\t", " # comment", " # gr\xfc\xdfe"])
ODD_END = st.sampled_from(["\f", " extra", ' "', " \\"])
PATTERN = st.sampled_from(
    [
        "rpi",
        "RPI",
        "*",
        "r*",
        "?pi",
        "!rpi",
        "!*.lab",
        "board?",
        "*.lab",
        "b*7",
        "[a-z]*",
        "r**i",
        "10.0.0.?",
        "pi",
        '"rpi"',
        "'*'",
    ]
)
LIST = st.lists(PATTERN.filter(lambda text: text[0] not in "'\""), min_size=1, max_size=3).map(",".join)
PLACES = [
    "{dir}/k1",
    '"{dir}/k 2"',
    "{dir}/k\\ 2",
    "{dir}/k3",
    "'{dir}/k 2'",
    "{dir}/%h",
    "{dir}/${{E_NAME}}",
    "{dir}/%%k",
    "~/k1",
    "none",
    "%d/k1",
    "{dir}/%n-%p-%r",
    "{dir}/a\\b",
    "${{E_NOT}}/x",
    "{dir}/%z",
]
VALUES = {
    "HostName": ["10.0.0.7", "%h.lab", "Board7", '"other"', "a b", "%%x", "%n", "rpi", "", "[::1]", "::1", "127.1", "FD00:0::1"],
    "User": ["pi", "root", '"two words"', "'pi'", "a\\\\b", "p#i", "#pi", '""', "Pi"],
    "Port": ["22", "2222", "ssh", "http", "0", "65536", "x", '"23"', "022", "-1", "+5"],
    "IdentityFile": PLACES,
    "CertificateFile": PLACES,
    "UserKnownHostsFile": [*PLACES, '{dir}/k1 "{dir}/k 2"', "{dir}/k3 {dir}/k1", "none {dir}/k1", "{dir}/k1 # {dir}/k3"],
    "GlobalKnownHostsFile": [*PLACES, '{dir}/k1 "{dir}/k 2"', "{dir}/k3 none"],
    "IdentitiesOnly": ["yes", "no", "true", "FALSE", "Yes", '"yes"', "1", "maybe"],
    "HostKeyAlias": ["Board7", "x", '"a b"', "rpi"],
    "ProxyJump": ["gate", "pi@two:23", "one,two", "none", "None", "ssh://pi@one:9", "a@b@c", "x:0", '"gate"'],
    "ProxyCommand": ["nc %h %p", "none", 'sh -c "nc %h %p"', "x # y", "=x", "nc %r@%n %%", "'", "NONE"],
    "AddressFamily": ["inet", "inet6", "any", "INET", "x"],
    "BindAddress": ["127.0.0.1", '"::1"'],
    "StrictHostKeyChecking": ["yes", "no", "ask", "accept-new", "off", "True", "x"],
    "Compression": ["yes", "maybe"],
    "NoSuchWord": ["x"],
    "SendEnv": ["LANG LC_*"],
}  # fmt: skip
CRITERIA = ["all", "final", "canonical", "!final", "!all", "exec true", '!exec "test -n %h"', 'exec "exit 1"', "user pi", "host", "", "# none", 'host "rpi"', "nosuch x", 'host="rpi,a"']  # fmt: skip


@cache
def is_taken(line: str) -> bool:
    """Whether ssh takes a file with this line alone."""
    text = line.replace("{dir}", "/tmp").replace("{{", "{").replace("}}", "}").encode("latin-1")
    with tempfile.NamedTemporaryFile() as file:
        file.write(text + b"\n")
        file.flush()
        return subprocess.run(["ssh", "-G", "-F", file.name, "rpi"], capture_output=True, check=False).returncode == 0


def often(good: st.SearchStrategy[str], odd: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Most of the time the first: of files with many odd lines ssh refuses nearly all."""
    return st.integers(0, 39).flatmap(lambda number: odd if number == 0 else good)


@st.composite
def settings_line(draw: st.DrawFn, keys: tuple[str, ...]) -> str:
    key = draw(st.sampled_from(keys))
    name = draw(st.sampled_from([key, key, key.lower(), key.upper(), f'"{key}"']))
    values = VALUES[key]
    good = [value for value in values if is_taken(f"{key} {value}")]
    value = draw(often(st.sampled_from(good or values), st.sampled_from(values)))
    return draw(ODD) + name + draw(GAP) + value + draw(often(END, ODD_END))


@st.composite
def files(draw: st.DrawFn, keys: tuple[str, ...], *, include: bool = True) -> str:
    """The text of a file, with ``{dir}`` for the folder."""
    setting = settings_line(keys)
    listed = st.builds(
        "{}{}{}{}".format,
        st.sampled_from(["", "", "!"]),
        st.sampled_from(["host", "Host", "originalhost", "user", "USER", "localuser"]),
        st.sampled_from([" ", " ", "=", " = "]),
        LIST,
    )
    taken = [criterion for criterion in CRITERIA if is_taken(f"Match {criterion}")]
    criterion = st.one_of(listed, often(st.sampled_from(taken), st.sampled_from(CRITERIA)))
    host = st.lists(PATTERN, min_size=1, max_size=3).map(lambda each: "Host " + " ".join(each))
    match = st.lists(criterion, min_size=1, max_size=2).map(lambda each: "Match " + " ".join(each))
    odd = st.sampled_from(["", "# comment", "  # gr\xfc\xdfe", "\t", "Host", 'Host "rpi', "\f", "\x00x", "User a\x00b", "User"])
    kinds = [
        setting,
        setting,
        setting,
        setting,
        host,
        match,
        *(
            [st.sampled_from(["Include {dir}/more", "include {dir}/mo*", "Include {dir}/none", "Include ~nobody-of-this-name/x"])]
            if include
            else []
        ),
    ]
    some = draw(st.lists(st.one_of(*kinds), min_size=1, max_size=9))
    if draw(st.integers(0, 29)) == 0:
        some.insert(draw(st.integers(0, len(some))), draw(odd))
    return draw(st.sampled_from(["\n", "\n", "\r\n"])).join(some) + draw(st.sampled_from(["\n", ""]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("ssh_config")
    for name in FILES:
        (where / name).touch()
    return where


def like_ssh(
    folder: Path, text: str, more: str, host: str, given: tuple[str | None, int | None], patch: pytest.MonkeyPatch
) -> None:
    """Compare: what ssh takes must come out the same here; what ssh refuses is refused or does not concern this host."""
    home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    for name, content in (("config", text), ("more", more)):
        (folder / name).write_bytes(content.replace("{dir}", str(folder)).replace("{{", "{").replace("}}", "}").encode("latin-1"))
    patch.setattr(ssh_config, "USER_CONFIG", folder / "config")
    patch.setattr(ssh_config, "SYSTEM", folder / "system")
    patch.setenv("HOME", str(home))
    patch.setenv("E_NAME", "k1")
    patch.delenv("E_NOT", raising=False)
    user, port = given
    extra = [*(["-l", user] if user else []), *(["-p", str(port)] if port else [])]
    done = subprocess.run(
        ["ssh", "-G", *extra, "-F", folder / "config", host], capture_output=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        # A damaged line concerns the hosts that it applies to, and unknown keywords nobody: no more is asked than an error of ours.
        with contextlib.suppress(UsageError):
            ssh_config.route(host, user, port)
        return
    TAKEN.append(text)
    said: dict[str, list[str]] = {}
    for line in done.stdout.decode(errors="surrogateescape").splitlines():
        key, _, value = line.partition(" ")
        said.setdefault(key, []).append(value)
    try:
        found = ssh_config.route(host, user, port)
    except UsageError as exc:
        # ssh -G does not follow all that it would follow when it connects.
        assert "can't be used" in str(exc), (text, more)  # noqa: PT017
        marks = ("unknown token", "environment variable", "is not a host")
        assert any(mark in str(exc) for mark in marks), (text, more, str(exc))  # noqa: PT017
        return
    places = {
        key: [Path(expanded(name, said, host, home)) for name in said.get(key, []) if name.lower() != "none"]
        for key in ("identityfile", "certificatefile")
    }
    assert found.host == said["hostname"][0], (text, more)
    assert found.port == int(said["port"][0])
    assert (found.user or ssh_tokens.local_user()) == said["user"][0]
    if found.identities_given:
        assert list(found.identities) == places["identityfile"]
    assert list(found.certificate_files) == [file for file in places["certificatefile"] if file.is_file()]
    jump = said.get("proxyjump", ["none"])[0]
    hops = [] if jump.lower() == "none" else jump.split(",")
    assert [ssh_config.split(hop) for hop in found.jump] == [ssh_config.split(hop) for hop in hops]
    command = said.get("proxycommand", ["none"])[0]
    assert found.command == (None if jump.lower() != "none" or command.lower() == "none" else expanded(command, said, host))
    assert found.only == (said["identitiesonly"][0] == "yes")
    alias = said.get("hostkeyalias", [None])[0]
    assert found.key_name == (alias or (found.host if found.port == 22 else f"[{found.host}]:{found.port}"))
    named = f"{said['userknownhostsfile'][0]} {ssh_tokens.tilde(said['globalknownhostsfile'][0])}"
    assert [str(file) for file in found.known_hosts] == [name for name in _known(named, folder, home) if Path(name).is_file()]
    strict = said["stricthostkeychecking"][0]
    assert {"off": "no", "true": "yes", "false": "no"}.get(found.strict, found.strict) == {"true": "yes", "false": "no"}.get(
        strict, strict
    )
    assert found.family == said["addressfamily"][0]
    assert found.source == said.get("bindaddress", [None])[0]


def expanded(value: str, said: dict[str, list[str]], host: str, home: Path | None = None) -> str:
    """Put in what the tokens, variables and ``~`` of ssh_config(5) stand for; ssh -G prints them as they are."""
    tokens = {"%": "%", "h": said["hostname"][0], "n": host, "p": said["port"][0], "r": said["user"][0], "d": str(home)}
    value = re.sub(r"%(.)", lambda found: tokens[found[1]], value)
    if home is None:
        return value
    value = re.sub(r"^~(?=/|$)", str(home), value)
    return value.replace("${E_NAME}", "k1")


def _known(named: str, folder: Path, home: Path) -> list[str]:
    """Files as -G prints them: with white space in their names, and no quotes."""
    joined = named.replace(f"{folder}/k 2", f"{folder}/k\x002")
    return [name.replace("\x00", " ").replace("~/", f"{home}/") for name in joined.split()]


GROUPS = {
    "the way": ("HostName", "User", "Port", "ProxyJump", "ProxyCommand", "Compression"),
    "keys": ("IdentityFile", "CertificateFile", "IdentitiesOnly", "HostName", "Port"),
    "known hosts": ("UserKnownHostsFile", "GlobalKnownHostsFile", "HostKeyAlias", "HostName", "StrictHostKeyChecking"),
    "all": tuple(VALUES),
}


@pytest.mark.skipif(shutil.which("ssh") is None, reason="needs OpenSSH's client")
@pytest.mark.faults
@pytest.mark.parametrize("group", GROUPS)
def test_files_are_read_as_ssh_reads_them(folder: Path, group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = GROUPS[group]

    @seed(15)
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(
        files(keys),
        files(keys, include=False),
        st.sampled_from(HOSTS),
        st.sampled_from([None, None, "pi", "root"]),
        st.sampled_from([None, None, 2222]),
    )
    def compared(text: str, more: str, host: str, user: str | None, port: int | None) -> None:
        like_ssh(folder, text, more, host, (user, port), monkeypatch)

    TAKEN.clear()
    compared()
    # Of files that ssh refuses little is learned.
    assert len(TAKEN) >= 0.6 * EXAMPLES
