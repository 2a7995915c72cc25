"""Probes devices, all at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.devices import facts as device_facts
from harness.devices import lease
from harness.devices.blame import blamed
from harness.devices.link import Link
from harness.devices.registry import WrongEntry
from harness.errors import (
    AuthenticationError,
    ConnectError,
    DeviceError,
    EntryError,
    HostKeyError,
    UnforeseenError,
    UnknownHostKeyError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.devices.device import Device
    from harness.devices.facts import Facts
    from harness.devices.registry import Entry

MOST_AT_ONCE = 32
TITLES = ("arch", "CPU", "int8", "cores", "governor", "°C", "memory", "Python", "onnxruntime")

STATES: dict[type[DeviceError], str] = {
    ConnectError: "unreachable",
    AuthenticationError: "refused",
    EntryError: "wrong entry",
    UnforeseenError: "failed",
}


@dataclass(frozen=True)
class Answer:
    """The result of probing a device: facts or an error."""

    device: Entry
    facts: Facts | None
    error: DeviceError | None

    @property
    def state(self) -> str:
        """``reachable``, ``busy``, ``unreachable``, ``unknown key``, ``wrong key``, ``refused``, ``wrong entry``, ``no runner`` or ``failed``."""
        if self.error is None:
            return "reachable" if self.busy is None else "busy"
        if isinstance(self.error, HostKeyError):
            return "unknown key" if isinstance(self.error, UnknownHostKeyError) else "wrong key"
        return next((state for kind, state in STATES.items() if isinstance(self.error, kind)), "no runner")

    @property
    def busy(self) -> str | None:
        """Who holds it, and since when; None if nobody does."""
        return None if self.facts is None or self.facts.holder is None else lease.holder(self.facts.holder)

    @property
    def how_to_end(self) -> str | None:
        """How to end the job that holds it; None if none does."""
        return None if self.facts is None or self.facts.holder is None else lease.how_to_end(self.facts.holder, self.device.name)

    def as_json(self) -> dict[str, Any]:
        """The answer as a JSON object, without keys of the registry that could be secret."""
        return {
            "device": self.device.name,
            "host": self.device.host,
            "tags": list(self.device.tags),
            "state": self.state,
            "busy": self.busy,
            "error": str(self.error) if self.error else None,
            "facts": self.facts.model_dump(mode="json") if self.facts else None,
        }

    def cells(self) -> dict[str, str]:
        """The answer as a row of a table, by title; unknown cells are empty."""
        device, facts = self.device, self.facts
        nowhere = "" if isinstance(device, WrongEntry) else "this machine"
        start = {"device": device.name, "state": self.state, "host": device.host or nowhere, "tags": " ".join(device.tags)}
        if facts is None or isinstance(device, WrongEntry):
            return start | dict.fromkeys(TITLES, "")
        emulated = device.emulated or (facts.emulated.by if facts.emulated else None)
        return start | {
            "arch": facts.arch,
            "CPU": (facts.cpu_model or "") + (f" (emulated: {emulated})" if emulated else ""),
            "int8": device_facts.telling(facts),
            "cores": str(facts.cores),
            "governor": facts.governor or "",
            "°C": "" if facts.temperature_celsius is None else f"{facts.temperature_celsius:.0f}",
            "memory": "" if facts.memory_bytes is None else f"{facts.memory_bytes / 2**30:.1f} GiB",
            "Python": facts.python,
            "onnxruntime": " ".join(_runtimes(facts)) or "none",
        }

    def sentence(self) -> str:
        """The same as one sentence."""
        cells = self.cells()
        if self.facts is None:
            return f"{cells['host']} {cells['tags']}".strip()
        heat, memory, governor = cells["°C"] and f"{cells['°C']} °C", cells["memory"], cells["governor"]
        parts = [cells["CPU"], f"{cells['cores']} cores", governor, heat, memory]
        words = [cells["int8"] and f"int8: {cells['int8']}", f"Python {cells['Python']}, onnxruntime {cells['onnxruntime']}"]
        return "; ".join(filter(None, [f"{cells['arch']}, {', '.join(filter(None, parts))}", *words]))


def _runtimes(facts: Facts) -> list[str]:
    """Versions of onnxruntime, the one that is used first."""
    return list(dict.fromkeys([*filter(None, [facts.onnxruntime.version]), *facts.runtimes]))


def probe(device: Entry) -> Answer:
    """Probe one device. If that fails for any reason, or its entry is wrong, the answer has an error."""
    if isinstance(device, WrongEntry):
        return Answer(device, None, EntryError(device.name, "entry", device.fault))
    try:
        with blamed(device.name, "probe"):
            return Answer(device, _facts(device), None)
    except DeviceError as exc:
        return Answer(device, None, exc)


def _facts(device: Device) -> Facts:
    link = Link(device)
    try:
        return device_facts.fitting(link.probe(), device)
    finally:
        link.close()


def probe_all(devices: Sequence[Entry]) -> list[Answer]:
    """Probe devices at the same time; the answers are in their order.

    Raises:
        KeyboardInterrupt: at once; devices that have not answered by then are left alone.
    """
    pool = ThreadPoolExecutor(max_workers=min(MOST_AT_ONCE, len(devices)), thread_name_prefix="probe")
    try:
        return list(pool.map(probe, devices))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
