"""Where things are: the files that come with the harness but are no modules of it, and what it keeps for the user."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from harness.errors import UsageError

_PACKAGE = Path(__file__).resolve().parent
# A wheel carries them inside the package; a checkout has them beside it.
_ROOT = _PACKAGE / "_shipped" if (_PACKAGE / "_shipped").is_dir() else _PACKAGE.parent

RUNNERS = _ROOT / "runners"
CACHE = "QUANT_HARNESS_HOME"
DIGITS = _ROOT / "studies" / "digits"


def home() -> Path | None:
    """The user's home directory; None where HOME is not set and the user has no passwd entry, as in some containers."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def expanded(path: Path) -> Path:
    """A path of the user's with ``~`` and ``~NAME`` replaced.

    Raises:
        UsageError: if there is no such home directory.
    """
    try:
        return path.expanduser()
    except RuntimeError:
        message = f"{path}: '{path.parts[0]}' can't be expanded, because there is no home directory; write an absolute path, or set HOME"
        raise UsageError(message) from None


def is_file(path: Path) -> bool:
    """Whether a regular file is there; False also if that can't be found out, as in a folder that this account may not enter."""
    try:
        return path.is_file()
    except OSError:
        return False


def refuse_stream(path: Path, error: type[UsageError]) -> None:
    """Refuse a path from which reading could wait for ever or never end: a FIFO, a socket or a device, other than /dev/null.

    Raises:
        UsageError: of the given type.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        # Whoever opens it says why.
        return
    if path == Path(os.devnull) or stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return
    message = f"{path}: not a regular file; copy its content into a regular file, and give that path"
    raise error(message)


def cache() -> Path:
    """The user's cache on this machine; the same folder as the store of ``local`` (runners/PROTOCOL.md)."""
    if said := os.environ.get(CACHE):
        return Path(said)
    own = home()
    return own / ".cache" / "quant-harness" if own is not None else _temporary()


def settle() -> str | None:
    """Choose another cache where the home directory is missing or read-only; processes that are started take it too.

    Returns:
        A warning that says so; None if the home directory will do.
    """
    if os.environ.get(CACHE):
        return None
    own = home()
    if own is not None and _is_writable(own / ".cache" / "quant-harness"):
        return None
    os.environ[CACHE] = str(_temporary())
    lack = "there is no home directory" if own is None else f"the home directory {own} is not writable"
    return f"{lack}: the cache and the models of baselines are kept in the temporary folder {os.environ[CACHE]}; set {CACHE} to a permanent folder"


def _is_writable(path: Path) -> bool:
    """Whether a folder is writable, or can be made."""
    there = next(each for each in (path, *path.parents) if each.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _temporary() -> Path:
    """A folder among the temporary files that is this user's alone."""
    path = Path(tempfile.gettempdir()) / f"quant-harness-{os.getuid()}"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError:
        found = None
    # Anybody can make a folder of that name, or a link to one.
    if found is not None and stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
        return path
    return Path(tempfile.mkdtemp(prefix="quant-harness-"))


def variants() -> Path:
    """Variants that were made before; the folder can be deleted at any time."""
    return cache() / "variants"


def programs() -> Path:
    """Programs of several modules, each put into one file to be pushed; the folder can be deleted at any time."""
    return cache() / "programs"


def models() -> Path:
    """Models of saved baselines, by hash."""
    return cache() / "models"
