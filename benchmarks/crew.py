"""Worker processes that take names one by one: onnxruntime can take a process down with it, and a model can take for ever."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent


class Worker:
    """A process that takes names one by one; made anew when it died or took too long.

    Attributes:
        script: reads a name a line, and answers one JSON object a line.
        folder: the process's working folder and home.
        seconds: that one name may take.
    """

    def __init__(self, script: Path, folder: Path, seconds: float) -> None:
        self.script, self.folder, self.seconds = script, folder, seconds
        self.process: subprocess.Popen[str] | None = None

    def examine(self, name: str) -> dict[str, Any]:
        """Take one; ``crash`` says why there is no answer."""
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, self.script],
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
            process.stdin.write(f"{name}\n")
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


class Crew:
    """Workers that share a list of names and keep each answer in ``FOLDER/results.jsonl``, so that a run that was cut goes on."""

    def __init__(self, script: Path, folder: Path, seconds: float, jobs: int) -> None:
        self.script, self.folder, self.seconds, self.jobs = script, folder, seconds, jobs

    def examine(self, names: Sequence[str], versions: dict[str, str]) -> dict[str, dict[str, Any]]:
        """Take all names, but for those of an earlier run with the same versions."""
        kept = self.folder / "results.jsonl"
        lines = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
        results: dict[str, dict[str, Any]] = {}
        if lines and lines[0] == versions:
            results = {line["name"]: line for line in lines[1:]}
        else:
            kept.write_text(json.dumps(versions) + "\n")
        lock = threading.Lock()
        waiting = iter([name for name in names if name not in results])

        def work() -> None:
            worker = Worker(self.script, self.folder, self.seconds)
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
                        _tell(sum(each in results for each in names), len(names), name)
            finally:
                worker.close()

        with ThreadPoolExecutor(self.jobs) as pool:
            for each in [pool.submit(work) for _ in range(self.jobs)]:
                each.result()
        return {name: results[name] for name in names}


def _tell(done: int, of: int, name: str) -> None:
    """Show how far it is: in one line on a terminal, else now and then."""
    if sys.stderr.isatty():
        print(f"\r{done} of {of}  {name:.60}\033[K", end="\n" if done == of else "", file=sys.stderr)
    elif done % 100 == 0 or done == of:
        print(f"{done} of {of}", file=sys.stderr)
