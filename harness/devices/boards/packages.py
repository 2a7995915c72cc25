"""Single Debian packages, found in an index whose signature debootstrap has checked, fetched, verified and unpacked on the host."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from shutil import which
from typing import TYPE_CHECKING

from harness import files
from harness.errors import DeviceError

if TYPE_CHECKING:
    from pathlib import Path

WHO = "board image"
ATTEMPTS = 3
PAUSE_SECONDS = 2.0
ANSWER_SECONDS = 60.0


@dataclass(frozen=True)
class Package:
    """One entry of an index.

    Attributes:
        path: below the mirror.
        size: bytes.
        depends: names, without versions.
    """

    name: str
    version: str
    path: str
    sha256: str
    size: int
    depends: tuple[str, ...]


def find(index: Path, name: str) -> Package:
    """Find a package in an index (``Packages``).

    Raises:
        DeviceError: if it is not there.
    """
    fields: dict[str, str] = {}
    with index.open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("Package: "):
                fields = {}
            key, colon, value = line.partition(": ")
            if colon and not line.startswith(" "):
                fields[key] = value.strip()
            elif not line.strip() and fields.get("Package") == name:
                break
    if fields.get("Package") != name:
        raise DeviceError(WHO, "packages", f"the mirror has no package {name}")
    depends = tuple(re.split(r"[ (|:]", part.strip())[0] for part in fields.get("Depends", "").split(","))
    return Package(name, fields["Version"], fields["Filename"], fields["SHA256"], int(fields["Size"]), depends)


def fetch(package: Package, mirror: str, proxy: str | None, folder: Path) -> Path:
    """Download a package, unless it is there; verified either way.

    Raises:
        DeviceError: if it can't be had, or is not what the index promises.
    """
    path = folder / f"{package.sha256}.deb"
    if path.is_file() and _is(path, package):
        return path
    url = f"{mirror}/{package.path}"
    handlers = [urllib.request.ProxyHandler({"http": proxy})] if proxy else []
    opener = urllib.request.build_opener(*handlers)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with files.replacing(path) as part:
                with opener.open(url, timeout=ANSWER_SECONDS) as answer, part.open("wb") as file:
                    shutil.copyfileobj(answer, file)
                if not _is(part, package):
                    reason = f"{url}: checksum mismatch: the index has sha256 {package.sha256}"
                    raise DeviceError(WHO, "packages", reason)
            break
        except (urllib.error.URLError, OSError) as exc:
            if attempt == ATTEMPTS:
                raise DeviceError(WHO, "packages", f"{url}: {exc}") from exc
            time.sleep(PAUSE_SECONDS)
    return path


def unpack(deb: Path, folder: Path) -> None:
    """Unpack a package's files; none of its scripts runs.

    Raises:
        DeviceError: if it can't be unpacked.
    """
    done = subprocess.run(
        [which("dpkg-deb") or "dpkg-deb", "--extract", str(deb), str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise DeviceError(WHO, "packages", f"{deb}: {done.stderr.strip()}")


def _is(path: Path, package: Package) -> bool:
    """Whether a file is the package, whole."""
    return path.stat().st_size == package.size and files.sha256(path) == package.sha256
