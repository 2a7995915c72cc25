"""How long a device may say nothing before its connection counts as broken."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.devices.device import Device

# Longer than the agent's silence between two signs of life, several times over.
SILENCE_SECONDS = 60.0
# An emulated clock can run a hundred times slower than ours, and with it the agent's signs of life.
EMULATED_SILENCE_SECONDS = 1800.0


def silence(device: Device) -> float:
    """How long a device may say nothing, in seconds."""
    if device.silence_time is not None:
        return device.silence_time
    return SILENCE_SECONDS if device.emulated is None else EMULATED_SILENCE_SECONDS
