"""Makes variants, one after the other or side by side in other processes."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import time
from concurrent.futures import BrokenExecutor, Future, as_completed, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.quantize.cores import cores
from harness.quantize.elsewhere import context_of
from harness.quantize.methods import ort_format, retry
from harness.quantize.model import storage
from harness.quantize.reasons import reason_of
from harness.quantize.recipe import Variant
from harness.quantize.verify import float_weights, isolated
from harness.quantize.worker_pool import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from concurrent.futures import Executor

    from harness.quantize.context import BuildContext
    from harness.quantize.recipe import Recipe
    from harness.quantize.worker_context import WorkerContext

FULL = 2**16  # bytes; a disk with less left is full
# What a disk answers that is full, over quota, read-only or broken, or holds no file of that size: no recipe's fault.
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}
START = 2.0  # CPU seconds that workers must take over to be worth their start: each imports onnxruntime, and reads the model
MEMORY = 300_000_000  # bytes of a worker that has imported everything and quantizes a small model
COPIES = 8  # of the model that a child holds at its peak
UNWIND = 60  # seconds to wait, after an interrupt, for what an executor of the caller's has begun


@dataclass(frozen=True)
class BuildTask:
    """A recipe to be made elsewhere.

    Attributes:
        recipe: what.
        worker: of what.
    """

    recipe: Recipe
    worker: WorkerContext


def run_task(task: BuildTask) -> Variant:
    """Make a variant in another process; see :func:`make`."""
    return make(task.recipe, context_of(task.worker, task.recipe))


def make(recipe: Recipe, context: BuildContext) -> Variant:
    """Make a variant, in the context's own folder.

    Returns:
        What was made, with its path there, or the reason why it could not be made.

    Raises:
        OSError: if the disk is full or broken.
    """
    # A folder of its own, as a recipe may be called like a file of the context.
    unfinished = context.folder / "made" / f"{recipe.name}.onnx"
    try:
        unfinished.parent.mkdir(exist_ok=True)
        notes = retry.make(recipe, context, unfinished)
        notes += ort_format.finish(unfinished, recipe.file_format)
        made = storage.describe(unfinished)
        if not recipe.is_copied and recipe.file_format == "onnx":
            notes += float_weights.larger(made.size, context.source.size)
    except Exception as exc:
        if isinstance(exc, OSError) and exc.errno in DISK:
            raise
        if shutil.disk_usage(context.folder).free < FULL:
            # Tools in C++ cut their files short without a word, and what reads them finds them corrupt.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from exc
        reason = reason_of(exc, [unfinished.parent, context.folder])
        return Variant(recipe=recipe, state="failed", reason=reason, preparation=context.preparation(recipe))
    return Variant(
        recipe=recipe,
        state="made",
        path=unfinished,
        sha256=made.sha256,
        size=made.size,
        data=made.data,
        preparation=context.preparation(recipe),
        notes=notes,
    )


def make_all(recipes: Sequence[Recipe], context: BuildContext, executor: Executor | None) -> Generator[Variant]:
    """Make variants, and give each as soon as it is there.

    Args:
        recipes: those that can exist.
        context: where they are made.
        executor: makes them elsewhere; without one they are made here, and the rest in worker processes as soon as those would
            save more time than they take to start.

    Raises:
        OSError: if the disk is full or broken.
    """
    here = [recipe for recipe in recipes if not _travels(recipe)]
    others = [recipe for recipe in recipes if _travels(recipe)]
    if others and executor is None:
        # It imports onnxruntime while the model is copied and prepared here.
        isolated.start()
    for recipe in here:
        yield make(recipe, context)
    static = [recipe for recipe in others if recipe.has_ranges]
    # First of all: the worker that runs made files starts meanwhile.
    context.calibrate(static)
    if executor is not None:
        yield from _through(executor, others, context)
        return
    spent = 0.0
    for done, recipe in enumerate(others):
        count = _useful(spent / max(done, 1), len(others) - done, context)
        if count > 1:
            yield from _by_workers(others[done:], context, count)
            return
        # Of the processor's time: on a busy machine everything takes longer, starting workers too.
        begun = time.process_time()
        variant = make(recipe, context)
        spent += time.process_time() - begun
        yield variant


def _travels(recipe: Recipe) -> bool:
    """Say whether a recipe may be made elsewhere: not a mere copy, nor one that looks at the calibration data themselves."""
    looks = recipe.algorithm == "GPTQ" or recipe.options().get("SmoothQuant")
    return not recipe.is_copied and not looks


def _useful(each: float, left: int, context: BuildContext) -> int:
    """Say how many workers would make the rest sooner, by the CPU time that each variant took so far; 1 is none."""
    count = min(cores(), left)
    if each * left * (1 - 1 / count) <= START:
        return 1
    return min(count, _free_memory() // (MEMORY + COPIES * context.source.size))


def _free_memory() -> int:
    """Bytes that processes could have; as many as one could wish where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        lines = []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), sys.maxsize)


def _by_workers(recipes: Sequence[Recipe], context: BuildContext, count: int) -> Generator[Variant]:
    workers = WorkerPool(count)
    try:
        yield from _through(workers, recipes, context)
    finally:
        # After an interrupt too: no worker is waited for.
        workers.shutdown(wait=False, cancel_futures=True)


def _through(executor: Executor, recipes: Sequence[Recipe], context: BuildContext) -> Generator[Variant]:
    """Make variants through an executor; when it breaks, what is left is made in one worker of our own."""
    waiting = {_submit(executor, recipe, context): recipe for recipe in recipes}
    left: list[Recipe] = []
    try:
        for future in as_completed(waiting):
            try:
                yield future.result()
            except BrokenExecutor:
                left.append(waiting[future])
            except Exception as exc:
                if isinstance(exc, OSError) and exc.errno in DISK:
                    raise
                yield Variant(recipe=waiting[future], state="failed", reason=reason_of(exc, [context.folder]))
    except BaseException:
        for future in waiting:
            future.cancel()
        if not isinstance(executor, WorkerPool):
            wait(waiting, timeout=UNWIND)
        raise
    if left:
        yield from _by_workers(left, context, 1)


def _submit(executor: Executor, recipe: Recipe, context: BuildContext) -> Future[Variant]:
    """Hand a recipe to an executor; what prevents that is the future's exception."""
    try:
        return executor.submit(run_task, BuildTask(recipe, context.for_worker(recipe)))
    except Exception as exc:  # noqa: BLE001 - a broken executor, or a model that can't be prepared
        future: Future[Variant] = Future()
        future.set_exception(exc)
        return future
