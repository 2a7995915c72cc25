"""Add a device: get its host key, log in, find a Python for the runner, and probe it, before its entry is written."""

from __future__ import annotations

import json
import secrets
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from harness.devices import facts as device_facts
from harness.devices import registry as registries
from harness.devices import registry_file, startup
from harness.devices.device import Device
from harness.devices.link import Link
from harness.devices.registry import Registry
from harness.devices.transports import ssh_config
from harness.devices.transports.connect import connect
from harness.devices.transports.route import shown_key
from harness.errors import HostKeyError, HostKeyMismatchError, RegistryError, RunnerError, UsageError
from harness.study import toml_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.devices.facts import Facts
    from harness.devices.transports.host_keys import Shown

OLDEST = (3, 9)
PYTHONS = ("python3", *(f"python3.{minor}" for minor in range(13, OLDEST[1] - 1, -1)))
MOST_NOISE = 1000
# One channel for all of them: each would start a login shell of its own. The names are words of their own, never part of the script.
# It says a line of its own first: the account's login files may run something else.
SEARCH = (
    'echo; echo "$1-begun"; code=$2; shift 2; '
    f'for name do command -v "$name" >/dev/null 2>&1 && "$name" {startup.ISOLATED} "$code" "$name" </dev/null; done; :'
)
# Where packages most often are, without running what the account's own files say; the agent looks everywhere (runners/agent/packages.py).
ASK = (
    "import sys,json,os,site,importlib.util as u;f=os.path.dirname(os.path.dirname(sys.executable));v=os.path.isfile(f+'/pyvenv.cfg');"
    "s=site.getsitepackages();sys.prefix=f if v else sys.prefix;"
    "sys.path+=(site.getsitepackages([f]) if v else [site.getusersitepackages()])+s;"
    "print(json.dumps(dict(python=sys.argv[1],version=list(sys.version_info[:3]),"
    "onnxruntime=u.find_spec('onnxruntime') is not None and u.find_spec('numpy') is not None)))"
)


@dataclass(frozen=True)
class Added:
    """A device that was added to devices.toml.

    Attributes:
        path: the devices.toml.
        fingerprint: of its host key.
        known: whether the key was in the user's known_hosts.
    """

    device: Device
    path: Path
    fingerprint: str
    known: bool
    facts: Facts

    @property
    def next(self) -> str:
        """The command to run next; it names the devices.toml unless that is found without."""
        where = "" if registries.locate(None) == self.path else f" --registry {shlex.quote(str(self.path))}"
        if self.facts.onnxruntime.version is None:
            return f"harness device provision {self.device.name}{where}"
        return f"harness run --device {self.device.name}{where}"

    def as_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return {
            "device": self.device.name,
            "registry": str(self.path),
            "host_key": self.device.host_key,
            "fingerprint": self.fingerprint,
            "known": self.known,
            "python": self.device.python or PYTHONS[0],
            "facts": self.facts.model_dump(mode="json"),
            "next": self.next,
        }


def place(path: Path | None) -> tuple[Path, Registry]:
    """The devices.toml that a device is added to, and its devices; a file that does not exist yet has none."""
    file = registries.locate(path) or registries.HERE
    if file.exists():
        return file, registries.load(file)
    return file, Registry(file, {})


def refuse_taken(known: Registry, name: str) -> None:
    """Refuse a name that is taken.

    Raises:
        RegistryError: if it is.
    """
    if name == registries.LOCAL:
        message = f"'{name}' is the name of this machine: choose another name"
        raise RegistryError(message)
    if name in known.entries:
        assert known.path is not None  # noqa: S101 - that's where it is
        _, text = toml_file.parse(known.path, RegistryError)
        message = f"{known.path}:{toml_file.line_of(text, (name,))}: there is already a device '{name}'; choose another name, or remove that entry"
        raise RegistryError(message)


def add(device: Device, file: Path, known: Registry, say: Callable[[str], None]) -> Added:
    """Connect to a device, probe it, and add it to devices.toml.

    Args:
        device: what the user said of it.
        file: the devices.toml, which is made if need be.
        known: the devices that are there already; the name must not be among them.
        say: told the fingerprint before anything secret is sent.

    Raises:
        DeviceError: if it can't be reached, refuses the login or has no usable Python; nothing is written then.
        RegistryError: if the name is taken, or the file can't be written.
    """
    refuse_taken(known, device.name)
    device = known.resolve(device)
    shown = _key(device)
    # A certificate vouches for the next key, too: written down, this one alone would count.
    key = None if shown.certified else f"{shown.key.get_name()} {shown.key.get_base64()}"
    origin = "as in known_hosts" if shown.known else "new; compare it with 'ssh-keygen -lf /etc/ssh/ssh_host_…_key.pub' there"
    origin = "certified by a CA of known_hosts" if shown.certified else origin
    say(f"host key: {shown.key.get_name()} {shown.key.fingerprint} ({origin})")
    device = device.model_copy(update={"host_key": key})
    python = _python(device)
    device = device.model_copy(update={"python": None if python == PYTHONS[0] else python})
    link = Link(device)
    try:
        facts = device_facts.check(link.probe(), device.name)
    finally:
        link.close()
    registry_file.write_device(file, device)
    return Added(device, file, shown.key.fingerprint, shown.known, facts)


def entry(name: str, host: str, **other: Any) -> Device:  # noqa: ANN401 - what devices.toml can say
    """Make an entry from the command line; ``USER@HOST:PORT`` sets user and port, too.

    Raises:
        UsageError: if it can't be one, or says a thing twice.
    """
    user, alias, port = ssh_config.split(host)
    for key, value in (("user", user), ("port", port)):
        if value is not None and other.get(key) is not None:
            message = f"the {key} is given both in '{host}' and by --{key}: give it once"
            raise UsageError(message)
        other[key] = other.get(key) if value is None else value
    try:
        return Device.model_validate(
            {"name": name, "host": alias} | {key: value for key, value in other.items() if value is not None}
        )
    except ValidationError as exc:
        fault = exc.errors()[0]
        message = f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg'].removeprefix('Value error, ')}".removeprefix(
            ": "
        )
    raise UsageError(message)


def _key(device: Device) -> Shown:
    """Ask for the host key, and refuse one that known_hosts contradicts."""
    try:
        return shown_key(device, check=True)
    except HostKeyMismatchError as exc:
        if exc.jump_host is not None:
            raise
        what = exc.reason.partition(";")[0]
        how = f"if it was installed anew, remove the old key: ssh-keygen -R '{ssh_config.route(str(device.host), device.user, device.port).key_name}'"
        raise HostKeyError(device.name, exc.step, f"{what} by known_hosts; {how}") from exc


def _python(device: Device) -> str:
    """Find a Python there that can run the runner: the first with onnxruntime, or else the first.

    Raises:
        RunnerError: if there is none.
    """
    names = PYTHONS if device.python is None else (device.python,)
    transport = connect(device)
    try:
        token = secrets.token_hex(8)
        channel = transport.open(["sh", "-c", SEARCH, "sh", token, ASK, *names], "add")
        startup.wait(channel, f"{token}-begun".encode(), "the search for Python", device, "add")
        channel.end()
        found = [said for line, _ in zip(channel.lines(), range(MOST_NOISE), strict=False) if (said := _said(line, names))]
        last = channel.close().splitlines()[-1:]
    finally:
        transport.close()
    usable = [name for name, version, _ in found if version >= OLDEST]
    if usable:
        return next((name for name, version, runs in found if version >= OLDEST and runs), usable[0])
    old = "; ".join(f"{name} is Python {'.'.join(map(str, version))}" for name, version, _ in found)
    trouble = old or (last[0][:300] if last else "not there")
    tried = names[0] if len(names) == 1 else f"{names[0]} or {names[1]} … {names[-1]}"
    reason = f"no Python 3.9 or newer as {tried} ({trouble}): install one there, or give another with --python"
    raise RunnerError(device.name, "add", reason)


def _said(line: bytes, names: tuple[str, ...]) -> tuple[str, tuple[int, ...], bool] | None:
    """One Python's answer, checked; None if a login script printed the line."""
    try:
        said = json.loads(line)
        name, version, runs = str(said["python"]), tuple(int(part) for part in said["version"]), said["onnxruntime"] is True
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return (name, version, runs) if name in names else None
