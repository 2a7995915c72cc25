"""The runtimes of a device: wheels of its store, unpacked side by side, and which one its Python uses."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import os
import stat
import sys

import child
import holders
import packages
import place
import small_files
import store

TYPE_CHECKING = False
if TYPE_CHECKING:
    import zipfile
    from typing import Any

    from protocol import Unpack, Wheel
    from protocol_journal import Facts

RUNTIME_BYTES = 2 << 30
RUNTIME_FILES = 50000
# Importing onnxruntime 1.31.1 fails with 100 MB of address space and works with 200 MB.
LEAST_MEMORY = 128 << 20
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
# What the libraries print goes to standard error: the answer has standard output to itself.
VERSIONS = """\
import json, os, sys
answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
sys.path += os.environ["QUANT_HARNESS_PATH"].split(os.pathsep)
import numpy, onnxruntime
answer.write(json.dumps({"onnxruntime": onnxruntime.__version__, "numpy": numpy.__version__}))
answer.close()
"""


def machine() -> None:
    """Report what decides which wheels fit. A store that no library can be loaded from is refused before a runtime is sent there."""
    runtimes = store.runtime_path()
    place.check_loadable(runtimes if os.path.isdir(runtimes) else store.root())
    check_memory()
    libc = "musl" if glob.glob("/lib/ld-musl-*") else ""
    with contextlib.suppress(ValueError, OSError):
        libc = os.confstr("CS_GNU_LIBC_VERSION") or libc
    store.say(
        {
            "event": "machine",
            "arch": os.uname().machine,
            "bits": 64 if sys.maxsize > 1 << 32 else 32,
            "libc": libc,
            "implementation": sys.implementation.name,
            "python": list(sys.version_info[:3]),
            "abi": "cp%d%d%s" % (sys.version_info[0], sys.version_info[1], sys.abiflags),
        }
    )


def check_memory() -> None:
    """Refuse an account whose limit of memory is too low to import any runtime; Linux's ``ulimit -v`` and ``ulimit -d``."""
    import resource

    for name, number in (("ulimit -v", resource.RLIMIT_AS), ("ulimit -d", resource.RLIMIT_DATA)):
        limit = resource.getrlimit(number)[0]
        if limit != resource.RLIM_INFINITY and limit < LEAST_MEMORY:
            raise ValueError(
                "the account may use %d MB of memory (%s), and a runtime needs %d MB to be imported: raise the limit, which its login files or "
                "/etc/security/limits.conf set" % (limit >> 20, name, LEAST_MEMORY >> 20)
            )


def unpack() -> None:
    """Unpack wheels of the store into a runtime's folder, completely or not at all."""
    import hashlib  # here, as all that few commands take: an agent starts for each of them, and slowly on a small board
    import shutil

    asked: Unpack = json.loads(sys.stdin.buffer.read(1 << 20))
    wheels = asked["wheels"]
    runtime = hashlib.sha256("\n".join(sorted(wheel["sha256"] for wheel in wheels)).encode()).hexdigest()
    found = store.runtime_path(runtime)
    os.makedirs(store.runtime_path(), mode=0o700, exist_ok=True)
    with open(os.path.join(store.runtime_path(), "lock"), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in glob.glob(os.path.join(store.runtime_path(), "*.part")):
            shutil.rmtree(left, ignore_errors=True)
        if not os.path.isdir(found):
            try:
                unpack_all(wheels, found + ".part")
                os.rename(found + ".part", found)
            finally:
                shutil.rmtree(found + ".part", ignore_errors=True)
    store.say({"event": "unpacked", "runtime": runtime})


def unpack_all(wheels: list[Wheel], folder: str) -> None:
    """Write the members of all wheels, after each of them was checked."""
    import shutil
    import zipfile
    import zlib

    try:
        with contextlib.ExitStack() as stack:
            archives = [stack.enter_context(zipfile.ZipFile(store.blob_path(wheel["sha256"]))) for wheel in wheels]
            found = [(archive, member) for archive in archives for member in members(archive)]
            check_room(len(found), sum(member.file_size for _, member in found))
            alive = store.Alive()
            for archive, member in found:
                path = os.path.join(folder, member.filename)
                os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
                mode = 0o755 if (member.external_attr >> 16) & 0o111 else 0o644
                # zipfile gives no more than the size that was declared, and checks the sum.
                with archive.open(member) as source, open(os.open(path, NEW_FILE, mode), "wb") as file:
                    shutil.copyfileobj(source, file, store.CHUNK)
                alive.tick()
    except (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        names = " or ".join(str(wheel.get("name"))[:200] for wheel in wheels)
        raise ValueError("can't unpack %s: %s" % (names, error)) from error


def check_room(files: int, size: int) -> None:
    """Refuse a runtime that is larger than allowed, or that the disk has no room for."""
    import shutil

    room = min(RUNTIME_BYTES, shutil.disk_usage(store.runtime_path()).free)
    if size > room or files > RUNTIME_FILES:
        raise ValueError("%d MB in %d files are too much: there is room for %d MB" % (size >> 20, files, room >> 20))


def members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The members of a wheel that a runtime consists of.

    Raises:
        ValueError: if a member leads out of the folder, is no plain file, or lies beside the packages (such as sitecustomize).
    """
    found = []
    for member in archive.infolist():
        parts = member.filename.split("/")
        if parts[-1] == "":
            continue  # a folder: made where a file needs it
        plain = stat.S_IFMT(member.external_attr >> 16) in (0, stat.S_IFREG) and not member.flag_bits & 1
        if len(parts) == 1 or not plain or {"", ".", ".."} & set(parts) or "\\" in member.filename:
            raise ValueError("it has a member that no wheel should have: %r" % member.filename[:200])
        if not parts[0].endswith(".data"):
            found.append(member)
    return found


def adopt(runtime: str, use: str = "always") -> None:
    """Use a runtime for this Python from now on, or (``beside``) only for cases that name it. A runtime that can't be imported is removed."""
    if not os.path.isdir(store.runtime_path(runtime)):
        raise ValueError("the runtime %s is not in the store" % runtime)
    code, out, log = store.run_child([sys.executable, *packages.ISOLATED, "-c", VERSIONS], environment(runtime))
    versions = child.answer(out)
    if code != 0 or versions is None:
        import shutil

        shutil.rmtree(store.runtime_path(runtime), ignore_errors=True)
        store.say({"event": "unusable", "message": child.ending(code, log)})
        return
    os.sync()  # boards lose their power: what 'current' names must be there
    with open(os.path.join(store.runtime_path(), "lock"), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if use == "always":
            chosen = dict(adopted(), **{python_tag(): dict(versions, runtime=runtime)})
            small_files.replace(os.path.join(store.runtime_path(), "current"), json.dumps(chosen))
    store.say({"event": "adopted", "runtime": runtime, "onnxruntime": versions["onnxruntime"], "numpy": versions["numpy"]})


def adopted() -> dict[str, dict[str, str]]:
    """The runtime that was provisioned for each Python of this account."""
    try:
        return dict(json.loads(store.read_small(os.path.join(store.runtime_path(), "current"))))
    except (ValueError, TypeError):
        return {}


def python_tag() -> str:
    """The key of this Python in ``current``: what compiled modules depend on, and its path."""
    return "%s%s-%s %s" % (sys.implementation.cache_tag, sys.abiflags, os.uname().machine, sys.executable)


def current() -> str | None:
    """The runtime that was provisioned for this Python; None if it uses its own packages."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        runtime = adopted()[python_tag()]["runtime"]
        return runtime if os.path.isdir(store.runtime_path(runtime)) else None
    return None


def environment(runtime: str | None) -> dict[str, str]:
    """The variables for a child that imports onnxruntime: from a runtime of the store, or else from where this Python has it."""
    found = packages.environment(store.runtime_path(runtime) if runtime is not None else None)
    found.pop("QUANT_HARNESS_RUNTIME", None)
    if runtime is not None:
        found["QUANT_HARNESS_RUNTIME"] = runtime[:12]
    return found


def probe(*programs: str) -> None:
    """Run the prober with the runner, and send its facts with the runtimes and the holder of the device."""
    missing = [program for program in programs if not os.path.exists(store.blob_path(program))]
    if missing:
        store.say({"event": "missing", "sha256": missing})
        return
    env = environment(current())
    words = [sys.executable, *packages.ISOLATED, *map(store.blob_path, programs), os.path.join(store.root(), "imported")]
    code, out, log = store.run_child(words, env)
    facts: Any = child.answer(out)
    if code != 0 or facts is None:
        raise ValueError("its prober failed: " + child.ending(code, log))
    found: Facts = facts
    store.say({**found, "runtime": env.get("QUANT_HARNESS_RUNTIME"), "runtimes": versions(), "holder": holders.holder()})


def versions() -> list[str]:
    """The versions of onnxruntime that are unpacked here."""
    folders = glob.glob(os.path.join(store.runtime_path(), "*", "onnxruntime-*.dist-info"))
    return sorted({os.path.basename(path).split("-")[1].replace(".dist", "") for path in folders})
