"""Many static variants of one model: the harness's build against onnxruntime's quantize_static in a loop, in the same run.

The model is MobileNetV2-sized, of random weights; the variants are those of 3 calibration methods x 2 formats x 3 pairs of types x per tensor
and per channel. Each side is a process of its own, from the source model (the harness) or the prepared one (the loop) to finished
files; its children are counted in its memory, which is looked at twenty times a second. Files are compared by the sha256 of their
deterministic serialization. Then the harness builds again: with the ranges of the first build, and with its files.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

from harness.quantize.build import build
from harness.quantize.calibration.reader import CopiedReader
from harness.quantize.matrix import plan
from harness.quantize.model.model import open_model
from harness.quantize.prepare import prepare
from harness.quantize.quiet import quiet
from harness.study import study as studies

MAKE = Path(__file__).resolve().parents[1] / "studies" / "published_claims" / "make.py"
STUDY = """
name = "benchmark"
[model]
path = "mobilenet.onnx"
calibration = "samples.npz"
[variants]
methods = ["static"]
activations = ["QUInt8", "QInt8"]
weights = ["QInt8", "QUInt8"]
per_channel = [false, true]
calibrations = ["MinMax", "Percentile", "Entropy"]
"""
PAIRS = {("QUInt8", "QInt8"), ("QUInt8", "QUInt8"), ("QInt8", "QInt8")}
MEGABYTE = 1e6
INTERVAL = 0.05
LOOP, HARNESS, RANGES, CACHED = "quantize_static in a loop", "harness", "harness, ranges kept", "harness, files kept"


def set_up(folder: Path, side: int, samples: int) -> None:
    """Write the model, its data, the study, and the prepared model for the loop."""
    runpy.run_path(str(MAKE))["mobilenet"](folder, side)
    data = np.random.default_rng(1).standard_normal([samples, 3, side, side]).astype(np.float32)
    np.savez(folder / "samples.npz", x=data)
    (folder / "study.toml").write_text(STUDY, encoding="utf-8")
    (folder / "prepared").mkdir()
    prepare(open_model(folder / "mobilenet.onnx"), folder / "prepared")


def loop(folder: Path) -> float:
    """Make every variant as a script would; gives seconds."""
    logging.disable(logging.CRITICAL)
    out = folder / "loop"
    out.mkdir()
    recipes = _recipes(folder)
    begun = time.perf_counter()
    data = np.load(folder / "samples.npz")["x"]
    for recipe in recipes:
        with quiet():
            quantize_static(
                folder / "prepared" / "prepared.onnx",
                out / recipe.file_name,
                CopiedReader({"x": sample[None]} for sample in data),
                quant_format=QuantFormat[recipe.format],
                per_channel=recipe.per_channel,
                activation_type=QuantType[recipe.activation],
                weight_type=QuantType[recipe.weight],
                calibrate_method=CalibrationMethod[recipe.calibration],
            )
    return time.perf_counter() - begun


def ours(folder: Path, out: str) -> float:
    """Make every variant with the harness; gives seconds."""
    recipes = _recipes(folder)
    begun = time.perf_counter()
    made = build(studies.load(folder), folder / out, recipes=recipes, cache=folder / "cache")
    seconds = time.perf_counter() - begun
    failed = [f"{variant.name}: {variant.reason}" for variant in made if variant.state != "made"]
    if failed:
        sys.exit("quantize: " + "; ".join(failed))
    # Variants that are the same have one file.
    files = {variant.recipe.file_name: variant.path.name for variant in made if variant.path is not None}
    (folder / f"{out}.json").write_text(json.dumps(files), encoding="utf-8")
    return seconds


def _recipes(folder: Path) -> list[Any]:
    return [recipe for recipe in plan(studies.load(folder)) if (recipe.activation, recipe.weight) in PAIRS]


def side_of(name: str, folder: Path) -> dict[str, float]:
    """Run a side in a process of its own; gives its seconds and its peak memory in MB."""
    words = [sys.executable, str(Path(__file__).resolve()), "--once", name, str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, _memory(process.pid))
            time.sleep(INTERVAL)
        assert process.stdout is not None
        said = process.stdout.read()
    if process.returncode:
        sys.exit(f"quantize: '{name}' ended with {process.returncode}")
    return {"seconds": float(said), "peak_mb": peak / MEGABYTE}


def _memory(pid: int) -> int:
    """Bytes that a process and its children hold; a page that several of them share is counted once between them."""
    pids = _family(pid)
    try:
        if len(pids) == 1:
            # Sharing means nothing then, and adding up the pages of gigabytes would hold the process up.
            return _sum(Path(f"/proc/{pid}/status"), "VmRSS:")
        return sum(_sum(Path(f"/proc/{one}/smaps_rollup"), "Pss:") for one in pids)
    except OSError:
        return 0  # one ended while we looked


def _family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    try:
        children = [(task / "children").read_text(encoding="ascii") for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return [pid]
    return [pid, *(one for listed in children for child in listed.split() for one in _family(int(child)))]


def _sum(file: Path, field: str) -> int:
    return sum(int(line.split()[1]) * 1024 for line in file.read_text(encoding="utf-8").splitlines() if line.startswith(field))


def identical(folder: Path, outs: list[str]) -> int:
    """Count the variants that every side made alike."""
    names = {out: json.loads((folder / f"{out}.json").read_text(encoding="utf-8")) for out in outs}
    files = sorted((folder / "loop").glob("*.onnx"))
    return sum(all(_digest(folder / out / names[out][file.name]) == _digest(file) for out in outs) for file in files)


def _digest(path: Path) -> str:
    return hashlib.sha256(onnx.load(path).SerializeToString(deterministic=True)).hexdigest() if path.is_file() else ""


def once(name: str, folder: Path) -> None:
    """One side: prints its seconds."""
    if name == RANGES:
        for file in (folder / "cache").glob("*.onnx"):
            file.unlink()
    print(loop(folder) if name == LOOP else ours(folder, name))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--small", action="store_true", help="few samples of 96 x 96 pixels, for a quick look")
    parser.add_argument("--samples", type=int, help="[default: 64, --small: 8]")
    parser.add_argument("--once", nargs=2, metavar=("SIDE", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        once(options.once[0], Path(options.once[1]))
        return
    samples = options.samples or (8 if options.small else 64)
    folder = Path(tempfile.mkdtemp(prefix="quantize-"))
    try:
        set_up(folder, 96 if options.small else 224, samples)
        found = {name: side_of(name, folder) for name in (LOOP, HARNESS, CACHED, RANGES)}
        count = len(_recipes(folder))
        same = identical(folder, [HARNESS, CACHED, RANGES])
    finally:
        shutil.rmtree(folder)
    summary = {
        "variants": count,
        "identical": same,
        "loop_seconds": found[LOOP]["seconds"],
        "harness_seconds": found[HARNESS]["seconds"],
        "cached_seconds": found[CACHED]["seconds"],
        "ranges_seconds": found[RANGES]["seconds"],
        "loop_peak_mb": found[LOOP]["peak_mb"],
        "harness_peak_mb": found[HARNESS]["peak_mb"],
        "samples": samples,
    }
    if options.json:
        print(json.dumps(summary))
        return
    print(f"{count} variants, {samples} samples; {same} of {count} files are identical")
    print(f"{'':28} {'time':>9} {'':>7} {'peak memory':>12}")
    for name, row in found.items():
        times, share = found[LOOP]["seconds"] / row["seconds"], found[LOOP]["peak_mb"] / row["peak_mb"]
        print(f"{name:28} {row['seconds']:7.1f} s {times:6.1f}x {row['peak_mb']:9.0f} MB {share:6.1f}x less")


if __name__ == "__main__":
    main()
