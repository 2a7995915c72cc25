"""What the harness's Python timing loop costs per call over onnxruntime's C API: the same models, in fresh processes, in random order.

The other side is overhead/timed.c, over the libonnxruntime that is in the Python wheel. It needs a C compiler and, the first time, the
network: overhead/Makefile fetches the header. A process gives one value, its median iteration; a round has one process of each way, and the
ratios are taken within rounds. On a machine that does other work too, a level is noisy and a single round says little.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import math
import os
import random
import runpy
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import onnxruntime as ort
from models import CNN, LARGE, MLP, make_models

import harness  # noqa: F401 - switches onnxruntime's telemetry off, in the processes started from here too
from harness.devices.boards.mirror import mirror
from harness.paths import RUNNERS

HERE = Path(__file__).resolve().parent / "overhead"
WARMUP_SECONDS = 0.2
LEAST_ITERATIONS = 5
LEAST_ROUNDS = 3
DEFAULT_ROUNDS = 15
CANNOT = 2
# The outputs of all ways come from the same kernels, perhaps compiled apart.
TOLERANCE = 1e-5

BASE = "c"
WAYS = {
    BASE: "C API, outputs preallocated",
    "run": "session.run(names, feed)",
    "runner": "the runner: inputs and outputs bound in advance",
    "bound-cpu": "run_with_iobinding, outputs bound to 'cpu'",
}


def once(way: str, model: Path, seconds: float) -> dict[str, object]:
    """One process of a Python way: nanoseconds of every iteration, and the sum of all outputs' absolute values."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    x = np.fromfile(model.with_suffix(".bin"), dtype=np.float32)
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    (given,), made = session.get_inputs(), session.get_outputs()
    names = [output.name for output in made]
    x = x.reshape(given.shape)
    if way == "run":
        call = functools.partial(session.run, names, {given.name: x})
    elif way == "runner":
        # A case as the job describes it: the very code that measures.
        inputs = model.with_name(f"{model.stem}-{os.getpid()}.npz")
        np.savez(inputs, x[None])
        case = {"model": str(model), "inputs": str(inputs), "names": [given.name], "threads": 1, "optimization": "all"}
        measured = runpy.run_path(str(RUNNERS / "ort_runner" / "model.py"))["Model"]({**case, "provider": "CPUExecutionProvider"})
        call, session = measured.first(), measured.session
    else:
        binding = session.io_binding()
        binding.bind_ortvalue_input(given.name, ort.OrtValue.ortvalue_from_numpy(x, "cpu"))
        for output in made:
            binding.bind_output(output.name, "cpu")
        call = functools.partial(session.run_with_iobinding, binding)
    begun, warmup = time.perf_counter(), 0
    while warmup < LEAST_ITERATIONS or time.perf_counter() - begun < WARMUP_SECONDS:
        call()
        warmup += 1
    gc.collect()
    gc.disable()
    samples = runpy.run_path(str(RUNNERS / "ort_runner" / "timing.py"))["timed"](call, seconds)
    gc.enable()
    outputs = session.run(names, {given.name: x})
    return {"ns": samples, "sum": sum(float(np.abs(output).sum(dtype=np.float64)) for output in outputs)}


def give_up(message: str) -> NoReturn:
    """Say what is missing and what to do next."""
    print(f"overhead: {message}", file=sys.stderr)
    raise SystemExit(CANNOT)


def library() -> Path:
    """The C library in the Python wheel."""
    folder = Path(ort.__file__).resolve().parent / "capi"
    found = sorted(folder.glob("libonnxruntime.so.*"))
    if not found:
        give_up(f"onnxruntime {ort.__version__} has no libonnxruntime.so in {folder}: install a wheel for Linux that has it")
    return found[0]


def build() -> Path:
    """Build the C program, unless it is there."""
    make = shutil.which("make")
    if make is None:
        give_up("no make: install it")
    done = subprocess.run(
        [make, "-s", "-C", str(HERE), f"MIRROR={os.environ.get('MIRROR') or mirror()}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        give_up("\n".join(line for line in done.stderr.splitlines() if not line.startswith("make: *** [")))
    return HERE / "build" / "timed"


def measure(rounds: int, seconds: float) -> dict[str, dict[str, list[float]]]:
    """Run every way of every model in every round, in random order; gives each process's median in nanoseconds."""
    program, onnxruntime = build(), library()
    names = (MLP, CNN, LARGE)
    medians: dict[str, dict[str, list[float]]] = {name: {way: [] for way in WAYS} for name in names}
    sums: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_models(folder)
        for _ in range(rounds):
            for name in random.sample(names, len(names)):
                model = folder / f"{name}.onnx"
                # Close together in time: what is compared shares the machine's state.
                for way in random.sample(list(WAYS), len(WAYS)):
                    in_c: list[object] = [program, onnxruntime, model, WARMUP_SECONDS, seconds, model.with_suffix(".bin")]
                    in_python: list[object] = [sys.executable, __file__, "--once", way, model, "--seconds", seconds]
                    found = answer([str(word) for word in (in_c if way == BASE else in_python)])
                    if not math.isclose(found["sum"], sums.setdefault(name, found["sum"]), rel_tol=TOLERANCE):
                        sys.exit(f"overhead: {WAYS[way]} computes another output of {name} than the ways before it")
                    medians[name][way].append(statistics.median(found["ns"]))
    return medians


def answer(words: list[str]) -> dict[str, Any]:
    """Run a process that measures; gives what it prints."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"overhead: {words[0]} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def compare(medians: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Each way's level in microseconds, and what it has over the C API in per cent and microseconds, with 95 % intervals.

    Args:
        medians: of a model, for each way each round's in nanoseconds.
    """
    # Late, because it takes half a second and the processes that measure don't need it.
    from harness.judge.intervals import geometric  # noqa: PLC0415

    base = medians[BASE]
    base_level = geometric(base)
    rows = {}
    for way, own in medians.items():
        level, ratio = geometric(own), geometric([mine / its for mine, its in zip(own, base, strict=True)])
        if base_level is None or level is None or ratio is None or ratio.low is None or ratio.high is None:
            sys.exit("overhead: this clock is too coarse, or there are too few rounds")
        rows[way] = {"median_microseconds": level.value / 1e3, "processes": ratio.n}
        for end, value in (("", ratio.value), ("_low", ratio.low), ("_high", ratio.high)):
            rows[way]["percent" + end] = 100 * (value - 1)
            rows[way]["microseconds" + end] = base_level.value / 1e3 * (value - 1)
    return rows


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=DEFAULT_ROUNDS, help=f"at least {LEAST_ROUNDS} [default: {DEFAULT_ROUNDS}]")
    parser.add_argument("--seconds", type=float, default=0.5, help="of timing in each process [default: 0.5]")
    parser.add_argument("--once", nargs=2, metavar=("WAY", "MODEL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(once(options.once[0], Path(options.once[1]), options.seconds)))
        return
    if options.rounds < LEAST_ROUNDS:
        parser.error(f"an interval needs at least {LEAST_ROUNDS} rounds")
    models = {name: compare(medians) for name, medians in measure(options.rounds, options.seconds).items()}
    if options.json:
        summary = {
            "overhead_percent_at_1ms": models[CNN]["runner"]["percent"],
            "overhead_microseconds": models[MLP]["runner"]["microseconds"],
        }
        print(json.dumps({**summary, "onnxruntime": ort.__version__, "models": models}))
        return
    print(f"{'':9} {'':43} {'median':>11} {'over the C API [95 %]':>33}")
    for name, rows in models.items():
        for way, row in rows.items():
            start = f"{name:9} {WAYS[way]:43} {row['median_microseconds']:8.1f} µs"
            if way == BASE:
                print(start)
                continue
            spans = [
                f"{row[unit]:+7.{digits}f} {sign} [{row[unit + '_low']:+.{digits}f} … {row[unit + '_high']:+.{digits}f}]"
                for unit, sign, digits in (("microseconds", "µs", 1), ("percent", "%", 2))
            ]
            print(f"{start} {spans[0]:30} {spans[1]}")


if __name__ == "__main__":
    main()
