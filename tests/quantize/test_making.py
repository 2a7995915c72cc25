from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

from harness.errors import ResultsError
from harness.quantize import making, prepare
from harness.quantize.build import build
from harness.quantize.calibration.reader import CopiedReader
from harness.quantize.context import BuildContext
from harness.quantize.making import BuildTask
from harness.quantize.model.model import open_model
from harness.quantize.quiet import quiet
from harness.quantize.recipe import Recipe, Variant
from harness.quantize.worker_pool import WorkerDiedError, WorkerPool
from harness.study.study import Study
from tests.models import images, tiny_cnn

WriteStudy = Callable[[str], Study]
FEW = '[variants]\nmethods = ["dynamic", "static"]\nformats = ["QDQ"]\nactivations = ["QUInt8"]\n'


def facts(variants: tuple[Variant, ...]) -> list[tuple[object, ...]]:
    return [(variant.name, variant.state, variant.sha256, variant.notes) for variant in variants]


class Inline(Executor):
    """Runs each call at once, after a round of pickling."""

    def __init__(self) -> None:
        self.sent: list[int] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        message = pickle.dumps((fn, args, kwargs))
        self.sent.append(len(message))
        fn, args, kwargs = pickle.loads(message)
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as exc:  # noqa: BLE001
            future.set_exception(exc)
        return future


def test_an_executor_gets_small_orders(write_study: WriteStudy, tmp_path: Path) -> None:
    study = write_study(FEW + 'calibrations = ["MinMax", "Percentile"]\n[[variant]]\nmethod = "fp16"\n')
    alone = build(study, tmp_path / "a")
    inline = Inline()
    told: list[str] = []
    through = build(study, tmp_path / "b", executor=inline, on_event=lambda variant: told.append(variant.name))
    assert facts(through) == facts(alone)
    assert sorted(told) == sorted(variant.name for variant in alone)
    assert len(inline.sent) == len(alone) - 1  # fp32 is a mere copy
    assert max(inline.sent) < 4000
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == sorted(f"{variant.name}.onnx" for variant in alone)


def test_threads_do_not_disturb_each_other(write_study: WriteStudy, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    study = write_study(FEW)
    with ThreadPoolExecutor(4) as threads:
        assert facts(build(study, tmp_path / "b", executor=threads)) == facts(build(study, tmp_path / "a"))
    sys.stdout.write("still heard\n")
    assert capfd.readouterr() == ("still heard\n", "")


def test_children_take_over_when_it_pays(write_study: WriteStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = write_study(FEW)
    alone = build(study, tmp_path / "a")
    made: list[int] = []

    def counted(recipe: Recipe, context: BuildContext) -> Variant:
        made.append(1)
        return original(recipe, context)

    original = making.make
    monkeypatch.setattr(making, "make", counted)
    monkeypatch.setattr(making, "cores", lambda: 2)
    monkeypatch.setattr(making, "START", 0.0)
    assert facts(build(study, tmp_path / "b")) == facts(alone)
    assert len(made) == 2  # fp32, and the first, which says how long they take
    monkeypatch.setattr(making, "_free_memory", lambda: 0)
    build(study, tmp_path / "c")
    assert len(made) == 2 + len(alone)  # no memory for others


class Deadly(Executor):
    """A child dies of one recipe."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.children = WorkerPool(1)

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        if isinstance(args[0], BuildTask) and args[0].recipe.name == self.name:
            return self.children.submit(die)
        return self.children.submit(fn, *args, **kwargs)


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_child_that_is_killed_is_a_failed_variant(write_study: WriteStudy, tmp_path: Path) -> None:
    executor = Deadly("static-QDQ-U8S8")
    try:
        variants = build(write_study(FEW), tmp_path / "out", executor=executor)
    finally:
        executor.children.shutdown()
    states = {variant.name: variant.state for variant in variants}
    assert [name for name, state in states.items() if state != "made"] == ["static-QDQ-U8S8"]
    dead = next(variant for variant in variants if variant.state == "failed")
    assert dead.reason == "the process that made it was ended by SIGKILL; perhaps the machine ran out of memory"
    assert not (tmp_path / "out" / "static-QDQ-U8S8.onnx").exists()
    assert WorkerDiedError.__mro__[1].__name__ == "RecipeError"


class Breaking(Executor):
    """A ProcessPoolExecutor whose only process dies of the second order, and that is broken from then on."""

    def __init__(self) -> None:
        self.pool = ProcessPoolExecutor(1)
        self.submitted = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.submitted += 1
        return self.pool.submit(die if self.submitted == 2 else fn, *args, **kwargs)


@pytest.mark.slow
def test_a_pool_that_breaks_takes_nothing_with_it(write_study: WriteStudy, tmp_path: Path) -> None:
    executor = Breaking()
    try:
        variants = build(write_study(FEW), tmp_path / "out", executor=executor)
    finally:
        executor.pool.shutdown()
    assert {variant.state for variant in variants} == {"made"}


class Full(Executor):
    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(OSError(errno.ENOSPC, "No space left on device"))
        return future


def test_a_full_disk_elsewhere_is_no_recipes_fault(write_study: WriteStudy, tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="No space left on device"):
        build(write_study(FEW), tmp_path / "out", executor=Full())


def test_what_cannot_be_submitted_is_a_reason(write_study: WriteStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        message = "not today"
        raise RuntimeError(message)

    monkeypatch.setattr("harness.quantize.context.prepare", fail)
    variants = build(write_study(FEW), tmp_path / "out", executor=Inline())
    assert {variant.reason for variant in variants if variant.name != "fp32"} == {"RuntimeError: not today"}


def test_an_order_brings_the_calibrations_failure(write_study: WriteStudy, tmp_path: Path) -> None:
    study = write_study(
        '[variants]\nmethods = []\n[[variant]]\nname = "bad"\nmethod = "static"\ncalibration = "Distribution"\n'
        'calibration_options = { scenario = "none" }\n'
    )
    bad = build(study, tmp_path / "out", executor=Inline())[1]
    assert bad.reason is not None
    assert bad.reason.startswith(
        "calibration by Distribution failed: onnxruntime/quantization/calibrate.py fails (ValueError: Invalid scenario"
    )


def test_an_interrupt_ends_the_children(cnn: Path, calibration: Path, tmp_path: Path) -> None:
    """Ctrl-C: no process, no half file and no traceback of a child is left."""
    program = """
import sys
sys.path[:0] = sys.argv[4:]
import time
from pathlib import Path
from harness.study import study as studies
from harness.quantize import making
from harness.quantize.build import build
making.START, making.cores = -1.0, lambda: 2
study = studies.for_model(Path(sys.argv[1]), dims={"batch": [1]}, calibration=sys.argv[2])
interrupted = False
def made(variant):
    if variant.name == "fp32":
        return  # a copy, made here
    print(variant.name, flush=True)
    time.sleep(600)
try:
    build(study, Path(sys.argv[3]), on_event=made)
except KeyboardInterrupt:
    interrupted = True
# Only now: an interrupt between a block that drops what tools print and its cleaning up holds that back for as long as it is handled.
if interrupted:
    print("interrupted", flush=True)
"""
    out = tmp_path / "out"
    words = [sys.executable, "-c", program, str(cnn), str(calibration), str(out), *sys.path]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() != ""
        children = children_of(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        said, wrong = process.stdout.read(), process.stderr.read()
    assert said == "interrupted\n", (process.returncode, said, wrong)
    assert wrong == ""
    assert children
    for pid in children:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert [path.name for path in out.iterdir() if path.suffix != ".onnx"] == []
    for path in out.iterdir():
        onnx.checker.check_model(onnx.load(path))


def children_of(pid: int) -> list[int]:
    """The processes that another one has started."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text(encoding="ascii").split()]


@pytest.mark.long
@pytest.mark.slow
def test_dask_makes_variants(write_study: WriteStudy, tmp_path: Path) -> None:
    """A Dask cluster in the place of our own processes."""
    distributed = pytest.importorskip("distributed")
    study = write_study(FEW + 'calibrations = ["MinMax", "Entropy"]\n')
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        workers = set(client.run(os.getpid).values())
        assert os.getpid() not in workers
        through = build(study, tmp_path / "b", executor=client.get_executor())
    assert facts(through) == facts(build(study, tmp_path / "a"))


def test_wider_types_are_those_of_quantize_static(write_study: WriteStudy, cnn: Path, tmp_path: Path) -> None:
    """16 bits need opset 21, and onnxruntime calibrates the model that it has brought there; so do we."""
    study = write_study(
        '[variants]\nmethods = ["static"]\nformats = ["QDQ"]\nactivations = ["QUInt16", "QInt16"]\nweights = ["QInt8", "QInt4"]\n'
        'calibrations = ["MinMax", "Percentile"]\n'
    )
    source = open_model(cnn)
    prepared = prepare.prepare(source, tmp_path)
    data = np.load(tmp_path / "calibration.npz")["x"]
    compared = 0
    for variant in build(study, tmp_path / "out")[1:]:
        recipe = variant.recipe
        with quiet():
            quantize_static(
                prepared.path,
                tmp_path / "alone.onnx",
                CopiedReader({"x": sample[None]} for sample in data),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType[recipe.activation],
                weight_type=QuantType[recipe.weight],
                calibrate_method=CalibrationMethod[recipe.calibration],
            )
        assert variant.path, variant.reason
        assert onnx.load(variant.path) == onnx.load(tmp_path / "alone.onnx"), variant.name
        compared += 1
    assert compared == 8


class TestRanges:
    """Ranges that are kept from one build to the next."""

    def test_the_next_types_need_no_calibration(
        self, write_study: WriteStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cache = tmp_path / "cache"
        build(write_study(FEW + 'calibrations = ["MinMax", "Percentile"]\n'), tmp_path / "a", cache=cache)
        assert len(list((cache / "ranges").iterdir())) == 2
        monkeypatch.setattr("harness.quantize.calibration.find.calibrate", None)
        variants = build(write_study(FEW + 'calibrations = ["Percentile"]\nper_channel = [true]\n'), tmp_path / "b", cache=cache)
        assert {variant.state for variant in variants} == {"made"}

    def test_damage_is_noticed(self, write_study: WriteStudy, tmp_path: Path) -> None:
        study, cache = write_study(FEW), tmp_path / "cache"
        first = build(study, tmp_path / "a", cache=cache)
        (kept,) = (cache / "ranges").iterdir()
        content = kept.read_bytes()
        for damaged in (b"", b"damaged", content[:-10], content.replace(b"1", b"2")):
            kept.write_bytes(damaged)
            for file in cache.glob("*.onnx"):
                file.unlink()
            assert facts(build(study, tmp_path / "b", cache=cache)) == facts(first)
            assert json.loads(kept.read_bytes().partition(b"\n")[2]) == json.loads(content.partition(b"\n")[2])

    def test_everything_that_matters_is_in_the_key(
        self, write_study: WriteStudy, cnn: Path, calibration: Path, tmp_path: Path
    ) -> None:
        cache = tmp_path / "cache"

        def kept(more: str) -> int:
            build(write_study(FEW + more), tmp_path / "out", cache=cache)
            return len(list((cache / "ranges").iterdir()))

        assert kept("") == 1
        assert kept("per_channel = [true]\n") == 1
        assert kept('op_types = [["Conv", "Neg"]]\n') == 2
        assert kept('[[variant]]\nmethod = "static"\ncalibration_options = { moving_average = true }\n') == 3
        assert kept('calibrations = ["Entropy"]\n') == 4
        np.savez(calibration, x=images(6, seed=8))
        assert kept("") == 5
        tiny_cnn(cnn, opset=18)
        assert kept("") == 6
