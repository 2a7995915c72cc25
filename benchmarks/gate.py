"""Whether ``harness check`` fails for a slower model and for nothing else: whole gates, again and again, beside neighbours on every core.

Four candidates against one baseline: the same model, and models with a few nodes more, which are about 3, 5 and 10 % slower. Every gate is the
command as a CI stage would start it, with its own processes, its own confirmation and its exit code. How much slower a candidate really is, is the median of
what all its gates measured.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conditions import CONDITIONS, condition
from models import CNN, SLOWER, SLOWER_5, SLOWER_10, make_models

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMIT = 0.02
NOMINAL = {"the same model": CNN, "about 3 % slower": SLOWER, "about 5 % slower": SLOWER_5, "about 10 % slower": SLOWER_10}


def check(folder: Path, candidate: str) -> dict[str, Any]:
    """One gate: its exit code, what it measured, and how long it took."""
    begun = time.perf_counter()
    command = [sys.executable, "-c", "from harness.cli import main; main()", "check", str(folder / f"{candidate}.onnx"), "--json"]
    options = ["--baseline", str(folder / "baseline.onnx"), "--max-regression", str(LIMIT), "--results", str(folder / "results")]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    said = json.loads(done.stdout)
    found = said["devices"][0]["checks"][0]
    return {
        "exit": done.returncode,
        "verdict": found["verdict"],
        "first": found["change"],
        "second": found["confirmed"],
        "processes": found["processes"],
        "seconds": time.perf_counter() - begun,
    }


def measure(count: int, names: Sequence[str], state: str, keep: Path | None) -> dict[str, list[dict[str, Any]]]:
    """All gates in random order, so that no candidate has an hour of its own."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    order = [name for name in names for _ in range(count)]
    random.Random(1).shuffle(order)
    with tempfile.TemporaryDirectory() as temporary, condition(state):
        folder = Path(temporary)
        make_models(folder)
        shutil.copy(folder / f"{CNN}.onnx", folder / "baseline.onnx")
        for name in order:
            found[name].append(check(folder, NOMINAL[name]))
            shutil.rmtree(folder / "results", ignore_errors=True)
            if keep:
                keep.write_text(json.dumps(found))
    return found


def summary(gates: list[dict[str, Any]]) -> dict[str, Any]:
    """A candidate's row."""
    codes = Counter(each["exit"] for each in gates)
    return {
        "gates": len(gates),
        "failed": codes[1],
        "passed": codes[0],
        "inconclusive": codes[4],
        "other": len(gates) - codes[0] - codes[1] - codes[4],
        "unconfirmed": sum(each["verdict"] == "passed" and each["second"] is not None for each in gates),
        "slowdown_percent": 100 * (statistics.median(each["second"] or each["first"] for each in gates) - 1),
        "seconds": statistics.median(each["seconds"] for each in gates),
        "processes": statistics.median(each["processes"] for each in gates),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--gates", type=int, default=50, help="of each candidate (default: 50)")
    parser.add_argument("--candidates", default=",".join(NOMINAL), help="which of them; all by default")
    parser.add_argument("--condition", default="two neighbours", help=f"of {', '.join(CONDITIONS)}")
    parser.add_argument("--keep", type=Path, help="write every gate to this file, as it goes")
    parser.add_argument("--again", type=Path, help="print what --keep wrote, without measuring")
    options = parser.parse_args()
    raw = (
        json.loads(options.again.read_text())
        if options.again
        else measure(options.gates, options.candidates.split(","), options.condition, options.keep)
    )
    found = {name: summary(gates) for name, gates in raw.items() if gates}
    if options.json:
        print(json.dumps({"limit": LIMIT, "candidates": found}))
        return
    print(
        f"{'candidate':20} {'measured':>9} {'gates':>6} {'failed':>7} {'passed':>7} {'open':>5} {'other':>6} {'processes':>10} {'seconds':>8}"
    )
    for name, row in found.items():
        print(
            f"{name:20} {row['slowdown_percent']:+8.1f}% {row['gates']:6} {row['failed']:7} {row['passed']:7} {row['inconclusive']:5} "
            f"{row['other']:6} {row['processes']:10.0f} {row['seconds']:8.1f}"
        )


if __name__ == "__main__":
    main()
