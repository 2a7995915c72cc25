"""A context in another process than the build's own."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from tempfile import mkdtemp
from threading import Lock
from typing import TYPE_CHECKING

import onnx

from harness.quantize.context import BuildContext
from harness.quantize.model import external_data
from harness.quantize.verify.sample import Sample

if TYPE_CHECKING:
    from harness.quantize.recipe import Recipe
    from harness.quantize.worker_context import WorkerContext

_OPENING = Lock()
_OPEN: dict[Path, BuildContext] = {}


def context_of(worker: WorkerContext, recipe: Recipe) -> BuildContext:
    """Set up a context for the recipe; all recipes of a build have the same one in a process.

    It has a folder and a copy of the prepared model of its own: onnxruntime's tools write a file beside the model that
    they are given, always under the same name.
    """
    with _OPENING:
        found = _OPEN.get(worker.prepared.path)
        if found is None:
            own = Path(mkdtemp(prefix="elsewhere-", dir=worker.folder))
            found = BuildContext(worker.source, {}, own, oldest_runtime=worker.oldest_runtime)
            path = own / worker.prepared.path.name
            proto = onnx.load(worker.prepared.path, load_external_data=not worker.prepared.is_large)
            for name in (path.name, *external_data.locations(proto)):
                shutil.copyfile(worker.prepared.path.with_name(name), path.with_name(name))
            # The build that asks has verified what is made before quantization.
            found.original = None
            found.sample = Sample.load(worker.sample) if worker.sample else None
            found.prepared = dataclasses.replace(worker.prepared, path=path, proto=proto)
            found.converts = False
            # Builds come one after the other: what the last one left is of no use.
            _OPEN.clear()
            _OPEN[worker.prepared.path] = found
        found.given(recipe, worker.ranges, worker.notes)
    return found
