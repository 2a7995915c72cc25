"""Takes one real model after the other: reads PACKAGE/FILE a line, answers one JSON object a line."""

from __future__ import annotations

import json
import os
import sys
import traceback
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

BENCHMARKS = Path(__file__).resolve().parent.parent


def examine(name: str) -> dict[str, Any]:
    """Take a model by its package and file.

    Returns:
        As :meth:`trial.Trial.examine`, with ``size`` in bytes and ``inputs``; ``not_taken``: why the harness quantizes nothing.
    """
    import numpy as np  # noqa: PLC0415 - after the limits
    from catalogue import MODELS  # noqa: PLC0415
    from trial import Trial  # noqa: PLC0415

    from harness.errors import HarnessError  # noqa: PLC0415
    from harness.quantize.planning.inspect import inspect_model  # noqa: PLC0415
    from harness.study.specs import VariantSpec, variant_spec  # noqa: PLC0415

    model = next(each for each in MODELS if f"{each.package}/{each.file}" == name)
    folder = Path.cwd() / model.package
    path = next(each for each in sorted(folder.rglob("*.onnx")) if str(each).endswith(model.file))
    facts = inspect_model(path)
    found: dict[str, Any] = {
        "size": path.stat().st_size,
        "opset": facts.opset,
        "nodes": len(facts.nodes),
        "ops": facts.op_histogram,
        "inputs": [f"{each.name} {each.dtype} {list(each.shape)}" for each in facts.inputs],
    }
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    specs = [
        variant_spec(method="prepared"),
        variant_spec(method="fp16"),
        variant_spec(method="dynamic", weight="QInt8"),
        variant_spec(method="dynamic", weight="QUInt8"),
        *(
            VariantSpec.model_validate({"method": "static", "format": form, "per_channel": by_channel})
            for form in ("QDQ", "QOperator")
            for by_channel in (False, True)
        ),
        variant_spec(method="static", activation="QInt8"),
        variant_spec(method="static", activation="QUInt16"),
        variant_spec(method="nbits"),
    ]
    with TemporaryDirectory(prefix="real-") as scratch:
        try:
            trial = Trial(path, [model.feed(rng, folder) for _ in range(model.samples)], Path(scratch))
            return trial.examine([each for each in specs if each.method != model.without]) | found
        except HarnessError as exc:
            return found | {"not_taken": str(exc).replace(f"{path.parent}/", "")}


def main() -> None:
    """Answer until standard input ends; whatever libraries print goes nowhere."""
    answers = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    # One core: variants are then made in this process, without others to start.
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[os.getpid() % len(cores)]})
    sys.path[:0] = [str(BENCHMARKS / "real"), str(BENCHMARKS / "patterns")]
    for line in sys.stdin:
        try:
            found = examine(line.strip())
        except Exception as exc:  # noqa: BLE001 - to be found and mended
            frame = traceback.extract_tb(exc.__traceback__)[-1]
            found = {"crash": f"{type(exc).__name__}: {exc} in {frame.name}, {Path(frame.filename).name}:{frame.lineno}"}
        answers.write(json.dumps(found) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
