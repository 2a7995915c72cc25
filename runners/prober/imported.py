"""What importing numpy and onnxruntime gives on this device: the runner is asked, and its answer is kept until the installation changes.

Importing them takes most of a probe's time, seconds on a small board.
"""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import json
import os
import subprocess
import sys
import zlib
from typing import Any

import child
import small_files


def runtime(runner: str, kept: str | None) -> tuple[dict[str, Any], str]:
    """What the runner says of numpy and onnxruntime: its answer, or how it ended; an answer is kept until what it depends on changes."""
    key = installation(runner)
    if kept and key and os.path.isfile(kept):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, RecursionError), open(kept, encoding="utf-8") as file:
            known = json.loads(file.read(1 << 20))
            if known["of"] == key and known["sum"] == checksum(known["answer"]):
                return dict(known["answer"]), ""
    answer, fault = ask(runner, "runtime")
    if kept and key and answer:
        with contextlib.suppress(OSError):  # a full disk, a store that can't be written: then it is asked again
            small_files.replace(kept, json.dumps({"of": key, "answer": answer, "sum": checksum(answer)}))
    return answer, fault


def checksum(answer: dict[str, Any]) -> int:
    """Of an answer that is kept, against damage."""
    return zlib.crc32(json.dumps(answer, sort_keys=True).encode())


def installation(runner: str) -> list[Any]:
    """All that decides how importing numpy and onnxruntime ends; an empty list where that can't be said.

    A package that is installed anew has other files, in place of the old ones or elsewhere; an operating system is updated, and a processor changed,
    with a new start sooner or later. A library that the wheel needs and that is removed meanwhile, its workers will miss.
    """
    started = small_files.read_text("/proc/sys/kernel/random/boot_id")
    variables = [os.environ.get(name) for name in ("PYTHONPATH", "QUANT_HARNESS_PATH", "LD_LIBRARY_PATH", "LD_PRELOAD")]
    found: list[Any] = [runner, started, sys.executable, sys.version, variables]
    for name in ("numpy", "onnxruntime"):
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            spec = None
        if started is None or spec is None or not spec.origin:
            return []
        folder = os.path.dirname(spec.origin)
        modules = sorted(path for name in ("*.py", "capi/*") for path in glob.glob(os.path.join(folder, name)))
        try:
            states = [(path, os.stat(path)) for path in (folder, spec.origin, *modules)]
        except OSError:
            return []  # in an archive
        found += [[path, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns] for path, state in states]
    return found


def ask(*words: str) -> tuple[dict[str, Any], str]:
    """One of the runner's programs in a child, for a wheel can die at import (SIGILL on an old core): its answer, or how it ended."""
    try:
        done = subprocess.run(
            [sys.executable, *child.ISOLATED, *words], capture_output=True, text=True, errors="replace", timeout=120, check=False
        )
    except subprocess.TimeoutExpired:
        return {}, "importing it took more than 120 s"
    if done.returncode != 0:
        return {}, child.ending(done.returncode, done.stderr)
    found = child.answer(done.stdout)
    return (found, "") if found is not None else ({}, child.unread(done.stdout))
