"""A workshop in another process than the build's own."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from tempfile import mkdtemp
from threading import Lock
from typing import TYPE_CHECKING

import onnx

from harness.quantize.context import Workshop
from harness.quantize.model import external_data
from harness.quantize.verify.sample import Sample

if TYPE_CHECKING:
    from harness.quantize.bench import Bench
    from harness.quantize.recipe import Recipe

_OPENING = Lock()
_OPEN: dict[Path, Workshop] = {}


def workshop_of(bench: Bench, recipe: Recipe) -> Workshop:
    """Set up a workshop for the recipe; all recipes of a build have the same one in a process.

    It has a folder and a copy of the prepared model of its own: onnxruntime's tools write a file beside the model that
    they are given, always under the same name.
    """
    with _OPENING:
        found = _OPEN.get(bench.prepared.path)
        if found is None:
            own = Path(mkdtemp(prefix="elsewhere-", dir=bench.folder))
            found = Workshop(bench.source, {}, own, oldest_runtime=bench.oldest_runtime)
            path = own / bench.prepared.path.name
            proto = onnx.load(bench.prepared.path, load_external_data=not bench.prepared.is_large)
            for name in (path.name, *external_data.locations(proto)):
                shutil.copyfile(bench.prepared.path.with_name(name), path.with_name(name))
            # The build that asks has verified what is made before quantization.
            found.original = None
            found.sample = Sample.load(bench.sample) if bench.sample else None
            found.prepared = dataclasses.replace(bench.prepared, path=path, proto=proto)
            found.converts = False
            # Builds come one after the other: what the last one left is of no use.
            _OPEN.clear()
            _OPEN[bench.prepared.path] = found
        found.given(recipe, bench.ranges, bench.notes)
    return found
