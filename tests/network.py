"""A network of its own for tests: hosts that are silent, off or forbidden, names with several addresses, and DNS servers that misbehave."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from tests.conftest import ROOT

# What is sent to them is dropped without an answer: their hardware address leads nowhere.
SILENT, SILENT_V6 = "10.99.0.7", "fd99::7"
# Nobody answers the question for their hardware address, as when a board has no power.
OFF = "10.99.0.8"
# This machine's routing table refuses them, or does not know them.
FORBIDDEN, DISCARDED, NO_ROUTE = "10.96.0.1", "10.96.0.2", "203.0.113.5"
# Of the namespace itself: where servers may listen.
OWN, OWN_V6 = "10.99.0.1", "fd99::1"
NUMBERS = itertools.count()

REPORT = """
import json, sys, time
from harness.devices import registry
from harness.devices.link import Link
from harness.errors import HarnessError
known = registry.load()
said = {}
for name in [device.name for device in known.devices.values() if device.transport == "ssh"]:
    begun = time.monotonic()
    try:
        Link(known.get(name)).close()
        said[name] = "connected"
    except HarnessError as exc:
        said[name] = f"{type(exc).__name__}: {exc}"
    said[name] = [said[name], time.monotonic() - begun]
print(json.dumps(said))
"""

# RFC 1035, 4.1.1: the question comes back with the answer's flags.
DNS_SERVER = """
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
print("ready", flush=True)
while True:
    asked, who = server.recvfrom(1000)
    server.sendto(asked[:2] + bytes([0x81, 0x80 | int(sys.argv[1])]) + asked[4:6] + bytes(6) + asked[12:], who)
"""


class Network:
    """A network namespace, removed with everything in it at the end; needs root.

    Args:
        hosts: lines of its /etc/hosts.
        resolver: lines of its /etc/resolv.conf.
    """

    def __init__(self, *hosts: str, resolver: str = "") -> None:
        self.name = f"harness-{os.getpid()}-{next(NUMBERS)}"
        self._hosts, self._resolver = hosts, resolver

    @staticmethod
    def lacking() -> str | None:
        """Say what is missing to make one; None if nothing is."""
        trial = f"harness-{os.getpid()}-trial"
        if os.getuid() != 0:
            return "only root can make a network namespace"
        if shutil.which("ip") is None or shutil.which("setpriv") is None:
            return "no ip or setpriv: install iproute2 and util-linux"
        made = subprocess.run(["ip", "netns", "add", trial], capture_output=True, text=True, check=False)
        subprocess.run(["ip", "netns", "delete", trial], capture_output=True, check=False)
        return f"network namespaces can't be made here: {made.stderr.strip()}" if made.returncode else None

    def __enter__(self) -> Self:
        self._files = Path("/etc/netns") / self.name
        self._files.mkdir(parents=True)
        (self._files / "hosts").write_text("\n".join(["127.0.0.1 localhost", *self._hosts, ""]))
        (self._files / "resolv.conf").write_text(self._resolver)
        (self._files / "nsswitch.conf").write_text("hosts: files dns\n")
        self._ip("netns", "add", self.name)
        for command in (
            "link set lo up",
            "link add near type veth peer name far",
            f"addr add {OWN}/24 dev near",
            f"addr add {OWN_V6}/64 dev near nodad",
            "link set near up",
            "link set far up",
            f"neigh add {SILENT} lladdr 02:00:00:00:00:07 dev near nud permanent",
            f"neigh add {SILENT_V6} lladdr 02:00:00:00:00:07 dev near nud permanent",
            f"route add prohibit {FORBIDDEN}",
            f"route add blackhole {DISCARDED}",
        ):
            self._ip("-n", self.name, *command.split())
        return self

    def __exit__(self, *_exc: object) -> None:
        self._ip("netns", "delete", self.name)
        shutil.rmtree(self._files)

    def python(self, code: str, *words: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run Python code in it, in the current folder."""
        command = ["ip", "netns", "exec", self.name, sys.executable, "-c", code, *words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)

    def connect(self, devices: str) -> dict[str, tuple[str, float]]:
        """Connect to each device of a registry: what came of it, and after how many seconds."""
        Path("devices.toml").write_text(devices)
        done = self.python(REPORT)
        assert done.returncode == 0, done.stderr
        said: dict[str, Any] = json.loads(done.stdout)
        return {name: (words, seconds) for name, (words, seconds) in said.items()}

    @contextlib.contextmanager
    def names(self, code: int) -> Iterator[None]:
        """A DNS server on its 127.0.0.1 that answers every question with a code and no address.

        Args:
            code: 0 for a name without an address, 2 for a failure, 3 for no such name.
        """
        command = ["ip", "netns", "exec", self.name, sys.executable, "-c", DNS_SERVER, str(code)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.kill()
            process.communicate()

    @staticmethod
    def _ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)
