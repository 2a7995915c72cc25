"""Downloads the wheels that a device needs with this machine's pip, for the device's Python, processor and C library."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness import paths
from harness.errors import UsageError
from harness.files import sha256

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.devices.provisioning.machine import Target

# All that 'import onnxruntime' imports; what else its metadata asks for is used by its tools alone.
NEEDED = ("onnxruntime", "numpy")
# Older ones were compiled for numpy 1 and die at import with a newer one.
FIRST_FOR_NUMPY_2 = (1, 19)
VERSION = re.compile(r"\d+(\.\d+){1,3}")


class NoWheelError(Exception):
    """Nothing fits.

    Args:
        reason: why, in pip's words where there are no better ones.
        known: versions that would fit the device, the newest last.
    """

    def __init__(self, reason: str, known: list[str]) -> None:
        super().__init__(reason)
        self.known = known


@dataclass(frozen=True)
class Wheel:
    """A file that can be pushed."""

    name: str
    version: str
    path: Path
    sha256: str


def number(version: str) -> tuple[int, ...]:
    """A version's numbers, to compare it."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def fetch(target: Target, version: str | None, wheelhouse: Path | None) -> tuple[Wheel, ...]:
    """Find the wheels of :data:`NEEDED`, onnxruntime's first.

    Args:
        target: what they have to fit.
        version: onnxruntime's; None takes the newest that fits.
        wheelhouse: a folder to take them from instead of pip's index.

    Raises:
        NoWheelError: if nothing fits.
        UsageError: if pip can't be run here.
    """
    kept = paths.cache() / "wheels"
    kept.mkdir(mode=0o700, parents=True, exist_ok=True)
    if version is not None and wheelhouse is None and (found := _wheels((kept / _folder_name(target, version)).glob("*.whl"))):
        return found
    with tempfile.TemporaryDirectory(dir=kept) as beside:
        files = _download(target, version, wheelhouse, Path(beside))
        chosen = next(path.name.split("-")[1] for path in files if path.name.startswith("onnxruntime-"))
        if version is None and number(chosen) < FIRST_FOR_NUMPY_2:
            return fetch(target, chosen, wheelhouse)
        if wheelhouse is not None:
            return _wheels(wheelhouse / path.name for path in files)
        folder = kept / _folder_name(target, chosen)
        folder.mkdir(exist_ok=True)
        return _wheels([path.replace(folder / path.name) for path in files])


def _folder_name(target: Target, version: str | None) -> str:
    return f"onnxruntime-{version}-{target.abi}-{target.arch}-glibc2.{target.glibc}"


def _download(target: Target, version: str | None, wheelhouse: Path | None, folder: Path) -> list[Path]:
    """Let pip resolve and download into a folder."""
    older = version is not None and number(version) < FIRST_FOR_NUMPY_2
    requirements = ["onnxruntime" if version is None else f"onnxruntime=={version}", "numpy<2" if older else "numpy"]
    source: list[str] = []
    environment = dict(os.environ)
    if wheelhouse is not None:
        # That folder alone counts, whatever pip is set to do.
        source = ["--isolated", "--no-index", "--find-links", str(wheelhouse.resolve())]
        environment["PIP_CONFIG_FILE"] = os.devnull
    options = ["--quiet", "--no-input", "--disable-pip-version-check", "--dest", str(folder)]
    words = [sys.executable, "-m", "pip", "download", *options, *source, *target.options(), *requirements]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=environment)
    if done.returncode == 0:
        return sorted(folder.glob("*.whl"))
    if "No module named pip" in done.stderr:
        message = f"{sys.executable} has no pip, which downloads the wheels: {sys.executable} -m ensurepip"
        raise UsageError(message)
    raise _no_wheel(done.stderr)


def _no_wheel(said: str) -> NoWheelError:
    """Put pip's failure in words."""
    asked = re.search(r"satisfies the requirement (\S+) .*\(from versions: ([^)]*)\)", said)
    if asked is None:
        errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
        return NoWheelError("pip: " + " ".join(errors or said.splitlines()[-1:] or ["no message"])[:1000], [])
    releases = re.findall(r"(?<!\S)\d+(?:\.\d+)+(?=,|$)", asked[2])
    if not asked[1].startswith("onnxruntime"):
        return NoWheelError(f"there is no {asked[1]} to go with it", [])
    return NoWheelError(f"what fits: {', '.join(releases[-12:]) or 'none'}", releases)


def _wheels(files: Iterable[Path]) -> tuple[Wheel, ...]:
    """Describe the needed ones among these files; nothing if one is lacking."""
    found = {}
    for path in files:
        name, version = path.name.split("-")[:2]
        if name in NEEDED:
            found[name] = Wheel(name, version, path, sha256(path))
    return tuple(found[name] for name in NEEDED) if len(found) == len(NEEDED) else ()
