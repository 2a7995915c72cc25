"""Find the oldest onnxruntime that a study's variants must load in, from devices.toml or from earlier runs."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import TYPE_CHECKING

from harness.devices.device import Device
from harness.errors import HarnessError
from harness.quantize.model import versions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from harness.devices.registry import Registry

LOOKED_AT = 30  # runs, the newest first


def oldest_runtime(devices: Sequence[Device], results: Path | None = None) -> str | None:
    """Find the oldest version of onnxruntime among devices.

    Args:
        devices: those of devices.toml that are meant.
        results: where runs are: the newest that measured a device tells what it ran; ``runtimes`` in devices.toml comes first, and
            this machine is known.

    Returns:
        The version, or None if none is known.
    """
    found: list[str | None] = []
    for device in devices:
        found += device.runtimes
        if not device.runtimes:
            found.append(version("onnxruntime") if device.transport == "local" else _seen(device.name, results))
    return versions.oldest(found)


def of_study(selectors: Sequence[str], known: Registry, results: Path | None = None) -> str | None:
    """Like :func:`oldest_runtime`, for devices by name or tag; devices without a valid entry are ignored."""
    try:
        return oldest_runtime([entry for entry in known.choose(selectors) if isinstance(entry, Device)], results)
    except HarnessError:
        return None


def _seen(device: str, results: Path | None) -> str | None:
    """What a device ran when it was last measured."""
    for facts in _facts(device, results) if results is not None else ():
        runtime = facts.get("onnxruntime")
        if isinstance(runtime, dict) and isinstance(runtime.get("version"), str):
            return str(runtime["version"])
    return None


def _facts(device: str, results: Path) -> Iterator[dict[str, object]]:
    """Yield the facts of a device from earlier runs, the newest first; unreadable runs are skipped."""
    files = sorted(results.glob("*/*/run.json"), key=lambda path: path.parent.name, reverse=True)
    for path in files[:LOOKED_AT]:
        try:
            records = json.loads(path.read_bytes())["devices"]
            found = [record["facts"] for record in records if record["entry"]["name"] == device and record.get("facts")]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        yield from found
