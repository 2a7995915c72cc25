"""On random graphs, the steps that patch onnxruntime's quantizers change nothing without a note, and make nothing worse."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings

from harness.quantize.steps.registry import STEPS
from tests.quantize.graphs import RandomModel, models
from tests.quantize.steps.conftest import Bench, decibels, run

if TYPE_CHECKING:
    from harness.quantize.recipe import Variant

EXAMPLES = int(os.environ.get("QUANT_HARNESS_EXAMPLES", "0"))
PATCHES = [step.key for step in STEPS if step.patch is not None or step.decide is not None]
LISTS = (
    '[variants]\nmethods = ["dynamic", "static"]\nactivations = ["QUInt8", "QInt8", "QUInt16"]\nweights = ["QInt8"]\n'
    "per_channel = [false, true]\n"
)


def outputs(path: Path | None, model: RandomModel, *, optimized: bool) -> list[np.ndarray] | None:
    """What a variant computes of a fixed input; None if onnxruntime does not load or run it."""
    feed = {model.name: np.random.default_rng(5).standard_normal(model.shape).astype(np.float32)}
    try:
        return run(path, feed, optimized=optimized) if path else None
    except Exception:  # noqa: BLE001 - of onnxruntime, whatever it is
        return None


def compare(name: str, ours: Variant, plain: Variant, model: RandomModel, reference: list[np.ndarray]) -> None:
    """Hold a variant to the one that was made without patches."""
    told = [note for note in ours.notes if any(note.startswith(f"{key}:") for key in PATCHES)]
    assert ours.path is not None or plain.path is None, (name, ours.reason)
    if ours.path is None or plain.path is None:
        return
    if not told and not any("in float, because" in note for note in plain.notes):
        assert ours.path.read_bytes() == plain.path.read_bytes(), name
        return
    mine, other = (outputs(each.path, model, optimized=False) for each in (ours, plain))
    assert mine is not None or other is None, name
    if mine is not None and other is not None:
        ours_db, plain_db = decibels(reference, mine), decibels(reference, other)
        # A tensor that keeps its own range can lose a bit to one that had been cut, so a few decibels mean nothing.
        assert ours_db > min(plain_db - 7, 25), (name, ours_db, plain_db, told)


@pytest.mark.long
@settings(
    max_examples=EXAMPLES or 15,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(model=models())
def test_patches(model: RandomModel) -> None:
    with TemporaryDirectory() as folder:
        found = []
        for place, more in (("ours", ""), ("plain", f"skip_steps = {PATCHES}\n".replace("'", '"'))):
            bench = Bench(Path(folder) / place)
            bench.folder.mkdir()
            onnx.save(model.proto, bench.folder / "m.onnx")
            data = np.random.default_rng(6).standard_normal((2, *model.shape)).astype(np.float32)
            np.savez(bench.folder / "d.npz", allow_pickle=False, **{model.name: data})
            found.append(bench.build(LISTS + more, dims=model.dims))
        reference = outputs(Path(folder) / "ours" / "m.onnx", model, optimized=False)
        assert reference is not None
        plain = {variant.recipe.model_copy(update={"name": "", "skip_steps": ()}): variant for variant in found[1].values()}
        for name, variant in found[0].items():
            other = plain[variant.recipe.model_copy(update={"name": "", "skip_steps": ()})]
            compare(name, variant, other, model, reference)
