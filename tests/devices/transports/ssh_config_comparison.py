"""Compares what is read of random ssh_config files with ``ssh -G``; a process of its own, for ``~/.ssh`` and ``/etc/ssh`` are its own there.

Usage: python -m tests.devices.transports.ssh_config_comparison EXAMPLES SEED
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from harness.devices.transports import ssh_config
from harness.errors import UsageError
from tests.devices.transports.ssh_config_files import DEEPER, FOLDER, HOSTS, INCLUDED, texts

CONFIG, MORE, NESTED = (Path(FOLDER) / name for name in ("config", "more", "folder/nested"))
SYSTEM = Path("/etc/ssh/ssh_config")
# Two values of each setting that is read. Where a wrong value stands, whether one of these or the other stands there shows whether it counts.
VALUES = {
    "hostname": ("one.invalid", "two.invalid"), "user": ("one", "two"), "port": ("4201", "4202"), "identityfile": ("/one", "/two"),
    "certificatefile": ("/one", "/two"), "userknownhostsfile": ("/one", "/two"), "globalknownhostsfile": ("/one", "/two"),
    "identitiesonly": ("yes", "no"), "identityagent": ("/one", "/two"), "hostkeyalias": ("one", "two"), "proxyjump": ("one", "two"),
    "proxycommand": ("one", "two"), "addressfamily": ("inet", "inet6"), "bindaddress": ("127.0.0.1", "127.0.0.2"),
    "stricthostkeychecking": ("yes", "no"), "canonicalizehostname": ("yes", "no"),
}  # fmt: skip
BLOCKS = {"host", "match"}
BAD_LINE = re.compile(r"^(/[^\s:]+):? line (\d+)", re.MULTILINE)
MARK = "THIS_LINE_APPLIES"
# A refusal leads to a next question without the refused line; more than this many are not asked.
MOST_BAD_LINES = 12
MOST_FAILURES = 20
counts: Counter[str] = Counter()
failures: list[str] = []


class RefusedError(Exception):
    """Ssh refuses this, or would when it connects; says why."""


def ssh(host: str, extra: list[str]) -> subprocess.CompletedProcess[bytes]:
    """Ask ssh what it would do."""
    return subprocess.run(["ssh", "-G", *extra, host], capture_output=True, check=False, stdin=subprocess.DEVNULL)


def put(path: Path, number: int, text: str) -> None:
    """Put a text in the place of a line."""
    lines = path.read_bytes().split(b"\n")
    lines[number - 1] = text.encode()
    path.write_bytes(b"\n".join(lines))


def ask(host: str, extra: list[str]) -> dict[str, list[str]]:
    """What ssh says of a host, without the lines that it refuses and that don't count here.

    Raises:
        RefusedError: if a refused line counts: of Host and Match always, of a setting if its value would be the one that is taken.
    """
    replaced: list[tuple[Path, int, str]] = []
    for _ in range(MOST_BAD_LINES):
        done = ssh(host, extra)
        fault = done.stderr.decode("latin-1")
        if done.returncode == 0:
            break
        found = BAD_LINE.search(fault)
        if found is None:
            raise RefusedError(fault)
        path, number = Path(found[1]), int(found[2])
        words = re.split(rb'[\s="]+', path.read_bytes().split(b"\n")[number - 1].strip(b' \t\r"='))
        keyword = words[0].decode("latin-1").lower()
        damaged = keyword in BLOCKS and "Unsupported Match attribute" not in fault
        if damaged and path in {CONFIG, SYSTEM}:
            raise RefusedError(fault)
        if keyword in VALUES:
            put(path, number, f"{keyword} {VALUES[keyword][0]}")
            replaced.append((path, number, keyword))
        else:
            # Of an unknown criterion, nothing matches; of a setting that is not read, nothing counts.
            put(
                path,
                number,
                "Match originalhost nobody" if keyword in BLOCKS else f"SendEnv {MARK}" if keyword == "include" else "",
            )
        if damaged:
            # It counts if the file does: its first lines apply where its Include does.
            path.write_bytes(f"SendEnv {MARK}\n".encode() + path.read_bytes())
            replaced = [(there, line + (there == path), key) for there, line, key in replaced]
    else:
        raise AssertionError(fault)
    said = spoken(done.stdout)
    if MARK in said.get("sendenv", []):
        raise RefusedError(MARK)
    for path, number, keyword in replaced:
        put(path, number, f"{keyword} {VALUES[keyword][1]}")
        if spoken(ssh(host, extra).stdout) != said:
            message = f"{keyword} at {path}:{number}"
            raise RefusedError(message)
        put(path, number, f"{keyword} {VALUES[keyword][0]}")
    return said


def spoken(out: bytes) -> dict[str, list[str]]:
    """What ssh -G printed: the values of each keyword."""
    said: dict[str, list[str]] = {}
    for line in out.decode(errors="surrogateescape").splitlines():
        key, _, value = line.partition(" ")
        said.setdefault(key, []).append(value)
    return said


def expand(value: str, tokens: dict[str, str]) -> str:
    """Replace what ssh replaces when it connects.

    Raises:
        RefusedError: if ssh would refuse it.
    """
    value = re.sub(r"^~(root)?(?=/|$)", "/root", value)
    value = re.sub(r"^~harness-test(?=/|$)", "/home/harness-test", value)
    done, rest = "", value
    while rest:
        if rest.startswith("${") and "d" in tokens:
            name, closed, rest = rest[2:].partition("}")
            if not closed or name not in os.environ:
                raise RefusedError(value)
            done += os.environ[name]
        elif rest.startswith("%"):
            if rest[1:2] not in tokens:
                raise RefusedError(value)
            done, rest = done + tokens[rest[1]], rest[2:]
        else:
            done, rest = done + rest[0], rest[1:]
    return done


def expected(host: str, extra: list[str]) -> dict[str, object]:
    """The route, as ssh tells it.

    Raises:
        RefusedError: if ssh refuses it.
    """
    said = ask(host, extra)
    first = {key: values[0] for key, values in said.items()}
    name, port, user = first["hostname"], first["port"], first["user"]
    alias = first.get("hostkeyalias")
    short = {"%": "%", "h": name, "p": port, "r": user, "n": host, "k": alias or host}
    tokens = short | {"d": "/root", "u": "root", "i": "0"}
    keys = [expand(each, tokens) for each in said.get("identityfile", []) if each != "none"]
    certificates = [expand(each, tokens) for each in said.get("certificatefile", []) if each != "none"]
    jump = first.get("proxyjump", "none")
    command = first.get("proxycommand", "none")
    system = first["globalknownhostsfile"].replace("~/", "/root/")
    known = f"{first['userknownhostsfile']} {system}".replace("/k 2", "/k\0002").split()
    checking = first["stricthostkeychecking"]
    return {
        "host": name,
        "port": int(port),
        "user": user,
        "identities": keys,
        "certificates": list(dict.fromkeys(each for each in certificates if there(each))),
        "only": first["identitiesonly"] == "yes",
        "agent": first.get("identityagent"),
        "jump": None if jump.lower() == "none" else plain(jump),
        "command": None if command.lower() == "none" or jump.lower() != "none" else expand(command, short),
        "key_name": alias or (name if port == "22" else f"[{name}]:{port}"),
        "known": [each for each in (each.replace("\0", " ") for each in known) if there(each)],
        "strict": {"true": "yes", "false": "no"}.get(checking, checking),
        "family": first["addressfamily"],
        "source": first.get("bindaddress"),
    }


def there(name: object) -> bool:
    """Whether there is such a file; of one with too long a name there is none."""
    return os.path.isfile(str(name))  # noqa: PTH113 - Path.is_file raises for it


def plain(jump: str) -> str:
    """Hops without the ways to write them that mean the same."""
    return ",".join(hop.removeprefix("ssh://").replace("[", "").replace("]", "") for hop in jump.split(","))


def read(host: str, user: str | None, port: int | None) -> dict[str, object]:
    """The same, as it is read here."""
    found = ssh_config.route(host, user, port)
    return {
        "host": found.host,
        "port": found.port,
        "user": found.user or "root",
        "identities": [str(each) for each in found.identities],
        "certificates": list(dict.fromkeys(map(str, found.certificate_files))),
        "only": found.only,
        "agent": found.identity_agent,
        "jump": plain(",".join(found.jump)) or None,
        "command": found.command,
        "key_name": found.key_name,
        "known": [str(each) for each in found.known_hosts],
        "strict": {"off": "no"}.get(found.strict, found.strict),
        "family": found.family,
        "source": found.source,
        "given": found.identities_given,
    }


def compare(written: dict[Path, str], host: str, user: str | None, port: int | None) -> None:
    """Compare one set of files for one host."""
    for path, text in written.items():
        path.write_bytes(text.encode("latin-1"))
    extra = [*(["-l", user] if user else []), *(["-p", str(port)] if port else [])]
    try:
        ours = read(host, user, port)
        refusal = ""
    except UsageError as exc:
        ours, refusal = {}, str(exc)
    try:
        theirs = expected(host, extra)
    except RefusedError as exc:
        counts["refused"] += 1
        for path, text in written.items():
            path.write_bytes(text.encode("latin-1"))
        assert refusal, f"ssh refuses what is taken here: {exc}"  # noqa: PT017
        return
    counts["compared"] += 1
    assert not refusal, f"ssh takes what is refused here: {refusal}"
    if not ours.pop("given"):
        theirs["identities"] = [each for each in theirs["identities"] if there(each)]  # type: ignore[attr-defined]
    other = {key: (value, theirs[key]) for key, value in ours.items() if value != theirs[key]}
    assert not other, f"here and in ssh: {other}"


def main(examples: int, number: int) -> None:
    """Compare, and say how many files there were."""
    for name in ("k1", "k 2", "k3", "%k", "rpi", "rpi.lab", "board7", "board7.lab", "a.lab", "root0", "rpi-22-root", "rpi-22-pi"):
        (Path(FOLDER) / name).touch()
    NESTED.parent.mkdir(exist_ok=True)
    os.environ |= {"HOME": "/root", "E_NAME": "k1", "SHELL": "/bin/sh", "OTHER": "/there"}
    os.environ.pop("E_NOT", None)

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(
        texts(INCLUDED),
        texts(DEEPER),
        texts([]),
        st.one_of(st.just(""), texts([])),
        st.sampled_from(HOSTS),
        st.sampled_from([None, None, "pi", "root"]),
        st.sampled_from([None, None, 2222]),
    )
    def compared(config: str, more: str, nested: str, system: str, host: str, user: str | None, port: int | None) -> None:
        if "final" not in config + system:
            # In ssh, it would count although the Include does not apply.
            more, nested = (text.replace("final", "canonical") for text in (more, nested))
        written = {CONFIG: config, MORE: more, NESTED: nested, SYSTEM: system}
        try:
            compare(written, host, user, port)
        except AssertionError as exc:
            if len(failures) < MOST_FAILURES:
                failures.append(f"{host} {user} {port} {written}\n{exc}")

    compared()
    sys.stderr.write("\n\n".join(failures))
    sys.stdout.write(f"{counts['compared']} {counts['refused']}\n")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
