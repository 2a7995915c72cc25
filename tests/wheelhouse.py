"""Wheels for tests: onnxruntime and numpy in a few lines each, or anything else that a zip file can hold."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

RUNTIME = "def get_available_providers():\n    return ['CPUExecutionProvider']\n"
DIES = "import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n"


def wheel(
    folder: Path, name: str, version: str, code: str = "", requires: tuple[str, ...] = (), tag: str = "py3-none-any"
) -> Path:
    """Write a wheel with one package that says its version."""
    about = f"{name}-{version}.dist-info"
    metadata = "".join(f"Requires-Dist: {other}\n" for other in requires)
    files = {
        f"{name}/__init__.py": f"__version__ = {version!r}\n{code}",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}",
        f"{about}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{about}/RECORD": "",
    }
    return packed(folder / f"{name}-{version}-{tag}.whl", files)


def packed(path: Path, files: Mapping[str, str | bytes], mode: int = 0o100644) -> Path:
    """Write a zip file with these members."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, data)
    return path


def wheelhouse(folder: Path, *versions: str, dying: tuple[str, ...] = ()) -> Path:
    """Fill a folder with numpy and these versions of onnxruntime; the dying ones don't survive their import."""
    wheel(folder, "numpy", "2.4.6")
    for version in (*versions, *dying):
        wheel(folder, "onnxruntime", version, DIES if version in dying else RUNTIME, ("numpy",))
    return folder
