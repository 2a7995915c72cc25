"""Which of the onnx package's backend test models can be inspected and quantized, by which recipe, and why the others can't.

Each model is taken by a worker process with a time limit, for onnxruntime can take a process down with it. What is found is kept in
FOLDER/results.jsonl, so that a run that was cut goes on where it stopped; other versions of the libraries begin anew.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "benchmarks" / "backend"
sys.path[:0] = [str(ROOT), str(HERE)]

import cases  # noqa: E402
import page  # noqa: E402
import sections  # noqa: E402
from crew import Crew  # noqa: E402

VERSIONS = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
SEED = 1
STRUCTURES = "Structures of real models"
NETWORKS = "light/"  # whole ones, up to VGG-19


def examine_all(folder: Path, names: list[str], jobs: int, seconds: float) -> dict[str, dict[str, Any]]:
    """Take all models, but for those of an earlier run with the same versions."""
    # Whole networks take minutes; operators less than a second each.
    ordered = sorted(names, key=lambda name: name.startswith(NETWORKS))
    results = Crew(HERE / "worker.py", folder, seconds, jobs).examine(ordered, VERSIONS)
    return {name: results[name] for name in names}


def main() -> None:
    """Examine, and print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / "results" / "coverage", help="where models and results are kept")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes")
    parser.add_argument("--seconds", type=float, default=300, help="time limit of one model")
    parser.add_argument("--sample", type=int, help="only so many small models, drawn at random from a fixed seed")
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier run found")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write the page there instead of printing it")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    given = parser.parse_args()
    folder = given.folder.resolve()
    if given.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    names = cases.write(folder)
    if given.sample:
        small = [name for name in names if not name.startswith(NETWORKS)]
        names = sorted(random.Random(SEED).sample(small, given.sample))
    results = examine_all(folder, names, given.jobs, given.seconds)
    if given.json:
        print(json.dumps({"versions": VERSIONS, **page.summary(results)}, indent=1))
    elif given.write:
        # benchmarks/patterns.py writes a section of the same page.
        old = sections.section(given.write.read_text(encoding="utf-8"), STRUCTURES) if given.write.exists() else ""
        text = page.render(results, VERSIONS)
        given.write.write_text(f"{text}\n{old}" if old else text, encoding="utf-8")
    else:
        print(page.render(results, VERSIONS))


if __name__ == "__main__":
    main()
