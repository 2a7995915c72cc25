"""Which of the onnx package's backend test models can be inspected and quantized, by which recipe, and why the others can't.

Each model is taken by a worker process with a time limit, for onnxruntime can take a process down with it. What is found is kept in
FOLDER/results.jsonl, so that a run that was cut goes on where it stopped; other versions of the libraries begin anew.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "benchmarks" / "backend"
sys.path[:0] = [str(ROOT), str(HERE)]

import cases  # noqa: E402
import page  # noqa: E402

VERSIONS = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
SEED = 1
NETWORKS = "light/"  # whole ones, up to VGG-19


class Worker:
    """A process that takes models one by one; made anew when it died or took too long."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder, self.seconds = folder, seconds
        self.process: subprocess.Popen[str] | None = None

    def examine(self, name: str) -> dict[str, Any]:
        """Take one model."""
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, HERE / "worker.py"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=self.folder,
                env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(self.folder)},
            )
        process = self.process
        assert process.stdin
        assert process.stdout
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self.seconds, end)
        timer.start()
        try:
            process.stdin.write(f"{self.folder / name}\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        timer.cancel()
        if answer:
            found: dict[str, Any] = json.loads(answer)
            return found
        self.close()
        return {
            "crash": f"took more than {self.seconds:.0f} s"
            if late.is_set()
            else f"the process died of signal {-process.returncode}"
        }

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def examine_all(folder: Path, names: list[str], jobs: int, seconds: float) -> dict[str, dict[str, Any]]:
    """Take all models, but for those of an earlier run with the same versions."""
    kept = folder / "results.jsonl"
    lines = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    results: dict[str, dict[str, Any]] = {}
    if lines and lines[0] == VERSIONS:
        results = {line["name"]: line for line in lines[1:]}
    else:
        kept.write_text(json.dumps(VERSIONS) + "\n")
    # Whole networks take minutes; operators less than a second each.
    left = sorted((name for name in names if name not in results), key=lambda name: name.startswith(NETWORKS))
    lock = threading.Lock()
    waiting = iter(left)

    def work() -> None:
        worker = Worker(folder, seconds)
        try:
            while True:
                with lock:
                    name = next(waiting, None)
                if name is None:
                    return
                found = {"name": name, **worker.examine(name)}
                with lock, kept.open("a") as file:
                    file.write(json.dumps(found) + "\n")
                    results[name] = found
                    _tell(len(results), len(names), name)
        finally:
            worker.close()

    with ThreadPoolExecutor(jobs) as pool:
        for each in [pool.submit(work) for _ in range(jobs)]:
            each.result()
    return {name: results[name] for name in names}


def _tell(done: int, of: int, name: str) -> None:
    """Show how far it is: in one line on a terminal, else now and then."""
    if sys.stderr.isatty():
        print(f"\r{done} of {of}  {name:.60}\033[K", end="\n" if done == of else "", file=sys.stderr)
    elif done % 200 == 0 or done == of:
        print(f"{done} of {of}", file=sys.stderr)


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
        given.write.write_text(page.render(results, VERSIONS), encoding="utf-8")
    else:
        print(page.render(results, VERSIONS))


if __name__ == "__main__":
    main()
