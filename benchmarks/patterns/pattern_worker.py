"""Takes one structure after the other: reads a name a line, answers one JSON object a line."""

from __future__ import annotations

import json
import os
import resource
import sys
import traceback
from pathlib import Path

MEMORY = 12 * 2**30  # bytes of address space; a model that wants more fails alone


def main() -> None:
    """Answer until standard input ends; whatever libraries print goes nowhere."""
    answers = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    # One core: variants are then made in this process, without others to start.
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[os.getpid() % len(cores)]})
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from trial import examine  # noqa: PLC0415 - after the limits

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
