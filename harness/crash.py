"""Reports of unexpected exceptions: a file for the maintainers, and one message for the user."""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
import sys
import tempfile
import traceback
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness import DISTRIBUTION, paths
from harness.text import sanitize

KEPT = 20
MOST_CHARACTERS = 1000
PACKAGES = (DISTRIBUTION, "onnxruntime", "onnx", "numpy", "paramiko", "fabric", "typer", "pydantic", "rich")


def message(exc: BaseException) -> str:
    """Write a report, and say what happened, where the report is and what to do."""
    path = report(exc)
    where = f"The crash report is {path}" if path else f"No crash report could be written; the traceback:\n{_traceback(exc)}"
    return (
        f"an unexpected error: {described(exc)}\n{where}\n"
        "This is a fault of the harness or of this installation, and not a verdict on a model. If a package is broken or missing, install "
        "the harness again; otherwise please report the fault with that file."
    )


def described(exc: BaseException) -> str:
    """An exception's class and text, each of which may be anything, on one line."""
    try:
        text = " ".join(sanitize(str(exc)).split())
    except Exception:  # noqa: BLE001 - an exception whose text can't be had
        text = "it has no text"
    kind = type(exc).__name__ if type(exc).__module__ == "builtins" else f"{type(exc).__module__}.{type(exc).__name__}"
    return f"{kind}: {text[:MOST_CHARACTERS]}" if text else kind


def report(exc: BaseException) -> Path | None:
    """Write a report that only its owner can read: what ran, the versions, the traceback.

    Returns:
        The file, in the user's cache or else among the temporary files; None where neither takes it.
    """
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
        f"command: {shlex.join(sys.argv)}",
        f"folder: {_folder()}",
        f"Python {platform.python_version()} ({sys.executable}) on {platform.platform()}",
        *(f"{package} {_version(package)}" for package in PACKAGES),
        "",
        _traceback(exc),
    ]
    content = "\n".join(lines).encode(errors="backslashreplace")
    for place in (_own, lambda: Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError, RuntimeError):
            folder = place()
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            name = f"crash-{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}-{os.getpid()}-{id(exc):x}.txt"
            with os.fdopen(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
            _prune(folder)
            return folder / name
    return None


def _own() -> Path:
    return paths.cache() / "crashes"


def _prune(folder: Path) -> None:
    """Keep the newest reports; other files are nobody's business here."""
    if folder.name == "crashes":
        for old in sorted(folder.glob("crash-*.txt"))[:-KEPT]:
            old.unlink(missing_ok=True)


def _traceback(exc: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(exc))
    except Exception:  # noqa: BLE001 - an exception whose text can't be had
        return "".join(traceback.format_tb(exc.__traceback__))


def _folder() -> str:
    try:
        return str(Path.cwd())
    except OSError as exc:
        return f"gone ({exc.strerror})"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "is not installed"
