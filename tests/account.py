"""Accounts of a board whose home has files of its own: login files, modules, packages; and Pythons that are not plain ones."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.sshd import ACCOUNT, SshServer


@contextmanager
def server(account: str = ACCOUNT, files: Mapping[str, str] | None = None, *lines: str) -> Iterator[SshServer]:
    """A server whose account has a home of the test's own, with these files; lines come first in its sshd_config."""
    if (reason := SshServer.lacking(account)) is not None:
        pytest.skip(reason)
    with SshServer(account) as made:
        home = made.folder / "home"
        home.mkdir()
        write(home, files or {})
        # SetEnv wins over the home that the account database names: the shell and Python go by $HOME.
        made.restart(*lines, f"SetEnv QUANT_HARNESS_HOME={made.store} HOME={home}")
        yield made


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Write files that every account can read, the folder given to who owns its parent; a text that begins with #! can be run."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if text.startswith("#!") else 0o644)
    owner = folder.parent.stat()
    for path in (folder, *folder.rglob("*")):
        os.lchown(path, owner.st_uid, owner.st_gid)


def venv(folder: Path, python: str, files: Mapping[str, str] | None = None) -> str:
    """Make a virtual environment that finds the packages of a Python by a .pth file, as some distributions lay them out.

    Args:
        folder: where.
        python: the Python whose packages and base it takes.
        files: more files for its site-packages.

    Returns:
        Its Python.
    """
    ask = "import sys, sysconfig; print(sys.base_prefix, '%d.%d' % sys.version_info[:2], sysconfig.get_path('purelib'))"
    said = subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout
    base, version, packages = said.split()
    made = {
        "pyvenv.cfg": f"home = {base}/bin\ninclude-system-site-packages = false\n",
        **{
            f"lib/python{version}/site-packages/{name}": text
            for name, text in {"a.pth": packages + "\n", **(files or {})}.items()
        },
    }
    folder.mkdir()
    write(folder, made)
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(f"{base}/bin/python{version}")
    return str(folder / "bin" / "python")


def altered(folder: Path, python: str, code: str) -> str:
    """Make a Python that runs this code at the start of each of its processes: its own standard library does.

    Returns:
        Its path; it finds the packages of the given Python.
    """
    made = venv(folder, python)
    ask = "import sysconfig; print(sysconfig.get_path('stdlib'))"
    library = Path(subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip())
    own = folder / "base" / "lib" / library.name
    own.mkdir(parents=True)
    for path in library.iterdir():
        if path.name not in {"encodings", "site-packages", "dist-packages"}:
            (own / path.name).symlink_to(path)
    shutil.copytree(library / "encodings", own / "encodings", ignore=shutil.ignore_patterns("__pycache__"))
    with (own / "encodings" / "__init__.py").open("a") as file:
        file.write(code)
    (folder / "base" / "bin").mkdir()
    binary = Path(made).readlink()
    (folder / "base" / "bin" / binary.name).symlink_to(binary)
    (folder / "pyvenv.cfg").write_text(f"home = {folder}/base/bin\ninclude-system-site-packages = false\n")
    return made
