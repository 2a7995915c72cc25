"""The platforms on which variants will run: described on the command line, or read from devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.devices.probe import Answer
    from harness.quantize.platform import Platform


def platforms_of(
    described: Sequence[str], devices: Sequence[str], registry: Path | None
) -> tuple[list[Platform], dict[str, str]]:
    """Describe platforms.

    Args:
        described: as ``--platform`` gives them.
        devices: names and tags of devices, which are all asked at once.
        registry: the devices.toml to use.

    Returns:
        The platforms, and by name why a device gave none.

    Raises:
        UsageError: if a description can't be read.
        SelectionError: if a device is not in the registry.
    """
    from harness.quantize.platform import platform

    try:
        found = [platform(text) for text in described]
    except ValueError as exc:
        message = f"--platform: {exc}"
        raise UsageError(message) from exc
    if not devices:
        return found, {}
    from harness.cli import known as registered
    from harness.devices import registry as registries
    from harness.devices.probe import probe_all

    known = registries.load(registry)
    silent: dict[str, str] = {}
    chosen = known.choose(list(devices))
    registered.warn(known, [entry.name for entry in chosen])
    for answer in probe_all(chosen):
        if answer.facts is None:
            silent[answer.device.name] = str(answer.error)
        else:
            found += _of_device(answer)
    return found, silent


def _of_device(answer: Answer) -> list[Platform]:
    """Describe a device: once for each version of onnxruntime that is measured there."""
    from harness.devices.registry import WrongEntry
    from harness.quantize.platform import Platform

    facts, device = answer.facts, answer.device
    if facts is None or isinstance(device, WrongEntry):
        return []
    own = facts.onnxruntime.version or next(iter(facts.runtimes), None)
    versions: Sequence[str | None] = device.runtimes or [own]
    return [
        Platform(
            name=device.name if len(versions) == 1 else f"{device.name}@{version}",
            arch=facts.arch,
            features=frozenset(facts.features),
            runtime=version,
        )
        for version in versions
    ]
