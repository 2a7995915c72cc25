"""Whatever small graph hypothesis thinks of is described, and each recipe is a file that keeps its word, or a row with a reason."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, event, given, settings

from harness.quantize.build import build
from harness.quantize.matrix import plan
from harness.quantize.planning.inspect import inspect_model
from harness.study import study as studies
from tests.quantize.graphs import RandomModel, models

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.quantize.recipe import Variant

# The larger profile: QUANT_HARNESS_EXAMPLES=500 pytest tests/quantize/test_random_graphs.py --hypothesis-show-statistics
EXAMPLES = int(os.environ.get("QUANT_HARNESS_EXAMPLES", "0"))
REFUSED = "does not load it"


def run(path: Path, name: str, shape: tuple[int, ...]) -> list[Any]:
    """Run a model; in a process of its own, for onnxruntime's optimizer aborts at some graphs."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    outputs: list[Any] = session.run(None, {name: np.random.default_rng(5).standard_normal(shape).astype(np.float32)})
    return outputs


class Runner:
    """Runs models in another process, which is made anew when one has taken it down."""

    def __init__(self) -> None:
        self.pool: ProcessPoolExecutor | None = None

    def __call__(self, path: Path, model: RandomModel) -> list[Any] | None:
        """Give the outputs, or None if onnxruntime died of the model."""
        self.pool = self.pool or ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        try:
            return self.pool.submit(run, path, model.name, model.shape).result()
        except BrokenProcessPool:
            self.close()
            return None

    def close(self) -> None:
        if self.pool:
            self.pool.shutdown()
            self.pool = None


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    made = Runner()
    yield made
    made.close()


@pytest.mark.long
@settings(
    max_examples=EXAMPLES or 25,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
@given(model=models())
def test_every_recipe_is_made_or_says_why_not(runner: Runner, model: RandomModel) -> None:
    with TemporaryDirectory() as folder:
        path, out = Path(folder) / "model.onnx", Path(folder) / "out"
        onnx.save(model.proto, path)
        data = np.random.default_rng(6).standard_normal((2, *model.shape)).astype(np.float32)
        np.savez(Path(folder) / "data.npz", allow_pickle=False, **{model.name: data})
        study = studies.for_model(path, dims=model.dims, calibration=str(Path(folder) / "data.npz"))
        facts = inspect_model(path)
        assert sum(facts.op_histogram.values()) == len(facts.nodes)
        recipes = plan(study)
        variants = build(study, out, recipes=recipes)
        assert [variant.recipe for variant in variants] == list(recipes)
        reference = runner(path, model)
        assert reference is not None
        for variant in variants:
            check(runner, variant, model, reference)


def check(runner: Runner, variant: Variant, model: RandomModel, reference: list[Any]) -> None:
    if variant.path is None:
        assert variant.state in {"impossible", "failed"}
        assert variant.reason
        assert "\n" not in variant.reason
        event(f"{variant.state}: {variant.reason:.120}")
        return
    if refusal := next((note for note in variant.notes if REFUSED in note), None):
        event(f"{variant.name} is not loaded: {refusal}")
        return
    outputs = runner(variant.path, model)
    if outputs is None:
        assert variant.name != "fp32"
        event(f"{variant.name} takes onnxruntime down")
        return
    assert [output.shape for output in outputs] == [output.shape for output in reference]
    if variant.name == "fp32":
        assert all(np.array_equal(one, other, equal_nan=True) for one, other in zip(outputs, reference, strict=True))
