"""Asking devices what they are, all at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.devices import facts as device_facts
from harness.devices.link import Link
from harness.errors import AuthenticationError, ConnectError, DeviceError, HostKeyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.devices.facts import Facts
    from harness.devices.registry import Device, Registry

MOST_AT_ONCE = 32


@dataclass(frozen=True)
class Answer:
    """What asking a device gave: facts or an error."""

    device: Device
    facts: Facts | None
    error: DeviceError | None

    @property
    def state(self) -> str:
        """One word or two: ``reachable``, ``unreachable``, ``host key``, ``refused`` or ``no runner``."""
        states = {ConnectError: "unreachable", HostKeyError: "host key", AuthenticationError: "refused"}
        return "reachable" if self.error is None else states.get(type(self.error), "no runner")

    def as_json(self) -> dict[str, Any]:
        """The answer for programs; no key of the registry that could be secret."""
        return {
            "device": self.device.name,
            "host": self.device.host,
            "tags": self.device.tags,
            "state": self.state,
            "error": str(self.error) if self.error else None,
            "facts": self.facts.model_dump(mode="json") if self.facts else None,
        }

    def cells(self) -> list[str]:
        """The answer as a line of a table."""
        device, facts = self.device, self.facts
        start = [device.name, device.host or "this machine", " ".join(device.tags), self.state]
        if facts is None:
            return [*start, *[""] * 8]
        heat = "" if facts.temperature_celsius is None else f"{facts.temperature_celsius:.0f}"
        memory = "" if facts.memory_bytes is None else f"{facts.memory_bytes / 2**30:.1f} GiB"
        emulated = device.emulated or (facts.emulated.by if facts.emulated else None)
        model = (facts.cpu_model or "") + (f" (emulated: {emulated})" if emulated else "")
        runtime = facts.onnxruntime.version or "none"
        return [*start, facts.arch, model, str(facts.cores), facts.governor or "", heat, memory, facts.python, runtime]


def probe(device: Device, registry: Registry) -> Answer:
    """Ask one device; its failure is the answer's error."""
    try:
        link = Link(device, registry)
        try:
            return Answer(device, device_facts.check(link.probe(), device.name), None)
        finally:
            link.close()
    except DeviceError as exc:
        return Answer(device, None, exc)


def probe_all(devices: Sequence[Device], registry: Registry) -> list[Answer]:
    """Ask devices at the same time, and answer in their order."""
    with ThreadPoolExecutor(max_workers=min(MOST_AT_ONCE, len(devices)), thread_name_prefix="probe") as pool:
        return list(pool.map(lambda device: probe(device, registry), devices))
