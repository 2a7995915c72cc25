"""A dead slice beside faithful ones is a fault; beside others that differ as well it is another model."""

from __future__ import annotations

import numpy as np

from harness.measure.resemblance import unlike
from harness.quantize.verify import fidelity

CHANCE = np.random.default_rng(7)
REFERENCE = [[np.maximum(CHANCE.normal(size=(1, 12)), 0).astype(np.float32)] for _ in range(16)]


def found(candidate: list[list[np.ndarray]]) -> list[str]:
    compared = fidelity.compare(REFERENCE, candidate, names=["y"], batch=1)
    assert compared.dead
    return unlike(REFERENCE, candidate, ["y"], compared)


def test_slices_beside_faithful_ones() -> None:
    candidate = [[sample.copy()] for (sample,) in REFERENCE]
    for (sample,) in candidate:
        sample[:, 2:9] = 0  # most of the energy is lost
    assert found(candidate) == []


def test_another_training() -> None:
    candidate = [[np.maximum(CHANCE.normal(size=(1, 12)), 0).astype(np.float32)] for _ in range(16)]
    for (sample,) in candidate:
        sample[:, 2] = 0
    assert found(candidate) == ["y"]
