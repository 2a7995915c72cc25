"""Where the store is, and whether it can be used: checked before anything is sent to it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Set by the controller from store in devices.toml, and by nobody else.
STORE = "QUANT_HARNESS_STORE"
OWNER_ONLY = 0o700
PAGE = 4096
# Whoever brings files says how much room is missing.
FULL = (errno.ENOSPC, errno.EDQUOT)


class PlaceError(ValueError):
    """The store can't be used where it is; the controller adds how to choose another place."""


def chosen() -> str:
    """The folder of the store: the one in devices.toml, else QUANT_HARNESS_HOME of the account, else one below the home folder.

    Raises:
        PlaceError: if the account has no home folder.
    """
    place = os.environ.get(STORE) or os.environ.get("QUANT_HARNESS_HOME") or os.path.join("~", ".cache", "quant-harness")
    if place.startswith("~"):
        home = os.path.expanduser("~")
        if not os.path.isabs(home) or not os.path.isdir(home):
            raise PlaceError("the account has no home folder: %s does not exist" % home)
        place = os.path.expanduser(place)
    return os.path.abspath(place)


def made(place: str) -> str:
    """Create the folder, and those above it, with mode 0700 if it does not exist.

    Raises:
        PlaceError: if it can't be made, or is not the account's own.
    """
    try:
        os.makedirs(place, mode=OWNER_ONLY, exist_ok=True)
        found = os.stat(place)
    except OSError as error:
        if error.errno in FULL:
            raise
        raise PlaceError("the store %s can't be made: %s" % (place, reason(place, error))) from None
    own = found.st_uid == os.geteuid()
    if not own and (STORE in os.environ or found.st_uid != 0):
        owner = user(found.st_uid)
        raise PlaceError(
            "the store %s belongs to %s, not to the account %s: name a folder inside it that the account owns"
            % (place, owner, user(os.geteuid()))
        )
    if STORE in os.environ and found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        raise PlaceError(
            "every account may write to the store %s (mode %o): run chmod go-w on it" % (place, stat.S_IMODE(found.st_mode))
        )
    return place


def check_writable(place: str) -> None:
    """Create a file in the store, and remove it.

    Raises:
        PlaceError: if it can't be created. A full disk is reported later, with how much room is missing.
    """
    try:
        with scratch(place):
            pass
    except OSError as error:
        if error.errno not in FULL:
            raise PlaceError("the store %s can't be written: %s" % (place, reason(place, error))) from None


def check_loadable(place: str) -> None:
    """Map a file of the store as a program, as the loader maps a library.

    Raises:
        PlaceError: if the system refuses that: a file system that is mounted noexec, or a policy.
    """
    try:
        import mmap
    except ImportError:
        return
    try:
        with scratch(place) as descriptor:
            os.write(descriptor, bytes(PAGE))
            mmap.mmap(descriptor, PAGE, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC).close()
    except PermissionError as error:
        mount = os.path.realpath(place)
        while not os.path.ismount(mount):
            mount = os.path.dirname(mount)
        noexec = os.statvfs(place).f_flag & os.ST_NOEXEC
        cause = "the file system at %s is mounted noexec" % mount if noexec else "the system refuses it (%s)" % error.strerror
        raise PlaceError("onnxruntime can't be loaded from the store %s: %s" % (place, cause)) from None
    except OSError as error:
        if error.errno not in FULL:
            raise


@contextlib.contextmanager
def scratch(place: str) -> Any:  # noqa: ANN401 - an iterator over a descriptor
    """A new file in a folder, open and without a name."""
    path = os.path.join(place, ".%d.new" % os.getpid())
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.unlink(path)
        yield descriptor
    finally:
        os.close(descriptor)


def reason(place: str, error: OSError) -> str:
    """Why a folder can't be made or written, in words."""
    above = place
    while not os.path.lexists(above) and above != os.path.dirname(above):
        above = os.path.dirname(above)
    if error.errno == errno.EROFS:
        return "the file system of %s is read-only" % above
    if error.errno in (errno.EACCES, errno.EPERM):
        with contextlib.suppress(OSError):
            found = os.stat(above)
            whose = "which belongs to %s" % user(found.st_uid) if found.st_uid != os.geteuid() else "its own folder"
            said = "the account %s may not write to %s, %s" % (user(os.geteuid()), above, whose)
            return "%s (mode %o, %s)" % (said, stat.S_IMODE(found.st_mode), error.strerror)
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return "%s is not a folder" % above
    return "%s: %s" % (above, error.strerror)


def user(uid: int) -> str:
    """An account's name, or its number."""
    with contextlib.suppress(ImportError, KeyError):
        import pwd

        return pwd.getpwuid(uid).pw_name
    return "uid %d" % uid
