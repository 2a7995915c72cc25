"""The device's side of store, runtimes and jobs, as PROTOCOL.md tells.

One file for Python >= 3.9 with nothing but its standard library, so that it works before any runtime is there.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import glob
import hashlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING, BinaryIO, Callable

if TYPE_CHECKING:
    import zipfile

PROTOCOL = 2
ALIVE_SECONDS = 5.0
STOP_SECONDS = 5.0
CHUNK = 512 * 1024
MESSAGE_LIMIT = 2000
CHILD_SECONDS = 300.0
RUNTIME_BYTES = 2 << 30
RUNTIME_FILES = 50000
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
VERSIONS = "import json, numpy, onnxruntime as o; print(json.dumps({'onnxruntime': o.__version__, 'numpy': numpy.__version__}))"


def store() -> str:
    """The folder that holds blobs and jobs; created with mode 0700."""
    root = os.environ.get("QUANT_HARNESS_HOME") or os.path.join(os.path.expanduser("~"), ".cache", "quant-harness")
    os.makedirs(root, mode=0o700, exist_ok=True)
    return root


def blob_path(sha256: str) -> str:
    """The place of a blob; a name that is no hash is refused."""
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ValueError("not a sha256: %r" % sha256[:100])
    return os.path.join(store(), "blobs", "sha256", sha256)


def job_path(job: str, *names: str) -> str:
    """A path in a job's folder; a name that would lead out of it is refused."""
    for name in (job, *names):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
            raise ValueError("not a plain name: %r" % name[:100])
    return os.path.join(store(), "jobs", job, *names)


def runtime_path(*names: str) -> str:
    """The place of the runtimes, or of the one with this hash."""
    if names and not re.fullmatch(r"[0-9a-f]{64}", names[0]):
        raise ValueError("not a runtime: %r" % names[0][:100])
    return os.path.join(store(), "runtimes", *names)


def say(event: str, **fields: object) -> None:
    """Write one line of the protocol."""
    sys.stdout.write(json.dumps(dict(event=event, **fields)) + "\n")
    sys.stdout.flush()


def read_small(path: str) -> str:
    """A small file's text, or an empty one."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20)
    except OSError:
        return ""


def receive() -> None:
    """Answer which blobs are missing, then store what comes, verified."""
    os.makedirs(os.path.dirname(blob_path("0" * 64)), mode=0o700, exist_ok=True)
    stream = sys.stdin.buffer
    for line in iter(stream.readline, b""):
        head = json.loads(line)
        if "have" in head:
            say("missing", sha256=[name for name in head["have"] if not os.path.exists(blob_path(name))])
        else:
            store_blob(stream, blob_path(head["sha256"]), head["sha256"], head["size"])
            say("stored", sha256=head["sha256"])


def store_blob(stream: BinaryIO, path: str, sha256: str, size: int) -> None:
    """Write one blob beside its place; rename it once size and hash are right."""
    part = "%s.%d.part" % (path, os.getpid())
    digest = hashlib.sha256()
    try:
        with open(part, "wb") as file:
            left = size
            while left:
                data = stream.read(min(CHUNK, left))
                if not data:
                    raise EOFError("the stream ended %d bytes before the end of %s" % (left, sha256))
                digest.update(data)
                file.write(data)
                left -= len(data)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != sha256:
            raise ValueError("what arrived as %s has the hash %s" % (sha256, digest.hexdigest()))
        os.rename(part, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)


def machine() -> None:
    """Say what decides which wheels fit."""
    libc = "musl" if glob.glob("/lib/ld-musl-*") else ""
    with contextlib.suppress(ValueError, OSError):
        libc = os.confstr("CS_GNU_LIBC_VERSION") or libc
    say(
        "machine", arch=os.uname().machine, bits=64 if sys.maxsize > 1 << 32 else 32, libc=libc, implementation=sys.implementation.name,
        python=list(sys.version_info[:3]), abi="cp%d%d%s" % (sys.version_info[0], sys.version_info[1], sys.abiflags),
    )  # fmt: skip


def unpack() -> None:
    """Unpack wheels of the store into a runtime's folder, whole or not at all."""
    wheels = json.loads(sys.stdin.buffer.read(1 << 20))["wheels"]
    runtime = hashlib.sha256("\n".join(sorted(wheel["sha256"] for wheel in wheels)).encode()).hexdigest()
    place = runtime_path(runtime)
    os.makedirs(runtime_path(), mode=0o700, exist_ok=True)
    with open(os.path.join(runtime_path(), "lock"), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in glob.glob(os.path.join(runtime_path(), "*.part")):
            shutil.rmtree(left, ignore_errors=True)
        if not os.path.isdir(place):
            try:
                unpack_all(wheels, place + ".part")
                os.rename(place + ".part", place)
            finally:
                shutil.rmtree(place + ".part", ignore_errors=True)
    say("unpacked", runtime=runtime)


def unpack_all(wheels: list[dict[str, str]], folder: str) -> None:
    """Write the members of all wheels, after each of them was checked."""
    import zipfile  # here and not above: the other commands start faster without it
    import zlib

    try:
        with contextlib.ExitStack() as stack:
            archives = [stack.enter_context(zipfile.ZipFile(blob_path(wheel["sha256"]))) for wheel in wheels]
            found = [(archive, member) for archive in archives for member in members(archive)]
            check_room(len(found), sum(member.file_size for _, member in found))
            told = time.monotonic()
            for archive, member in found:
                path = os.path.join(folder, member.filename)
                os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
                mode = 0o755 if (member.external_attr >> 16) & 0o111 else 0o644
                # zipfile gives no more than the size that was declared, and checks the sum.
                with archive.open(member) as source, open(os.open(path, NEW_FILE, mode), "wb") as file:
                    shutil.copyfileobj(source, file, CHUNK)
                if time.monotonic() - told > ALIVE_SECONDS:
                    say("alive")
                    told = time.monotonic()
    except (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        names = " or ".join(str(wheel.get("name"))[:200] for wheel in wheels)
        raise ValueError("can't unpack %s: %s" % (names, error)) from error


def check_room(files: int, size: int) -> None:
    """Refuse a runtime that is larger than one may be, or than the disk has room for."""
    room = min(RUNTIME_BYTES, shutil.disk_usage(runtime_path()).free)
    if size > room or files > RUNTIME_FILES:
        raise ValueError("%d files of %d MB are too much: there is room for %d MB" % (files, size >> 20, room >> 20))


def members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """What a runtime takes of a wheel; what leads out of it, is no plain file, or lies beside the packages (sitecustomize) is refused."""
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
    """Let this Python use a runtime from now on, or keep it beside, if it can be imported; a folder that can't is removed."""
    if not os.path.isdir(runtime_path(runtime)):
        raise ValueError("the runtime %s is not there" % runtime)
    code, out, log = attend([sys.executable, "-c", VERSIONS], environment(runtime))
    if code != 0:
        shutil.rmtree(runtime_path(runtime), ignore_errors=True)
        say("unusable", message=ending(code, log))
        return
    versions = json.loads(out.splitlines()[-1])
    os.sync()  # boards lose their power: what 'current' names must be there
    with open(os.path.join(runtime_path(), "lock"), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if use == "always":
            chosen = dict(adopted(), **{python_tag(): dict(versions, runtime=runtime)})
            write_whole(os.path.join(runtime_path(), "current"), json.dumps(chosen))
    say("adopted", runtime=runtime, **versions)


def adopted() -> dict[str, dict[str, str]]:
    """What was provisioned for each Python of this account."""
    try:
        return dict(json.loads(read_small(os.path.join(runtime_path(), "current"))))
    except (ValueError, TypeError):
        return {}


def python_tag() -> str:
    """What a runtime is for: this Python, as compiled modules see it, and where it is."""
    return "%s%s-%s %s" % (sys.implementation.cache_tag, sys.abiflags, os.uname().machine, sys.executable)


def current() -> str | None:
    """The runtime that was provisioned for this Python, or None: then it is on its own."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        runtime = adopted()[python_tag()]["runtime"]
        return runtime if os.path.isdir(runtime_path(runtime)) else None
    return None


def environment(runtime: str | None) -> dict[str, str]:
    """The variables for a child that imports onnxruntime."""
    found = dict(os.environ, ORT_DISABLE_TELEMETRY="1")
    found.pop("QUANT_HARNESS_RUNTIME", None)
    if runtime is not None:
        found["PYTHONPATH"] = os.pathsep.join(filter(None, [runtime_path(runtime), found.get("PYTHONPATH")]))
        found["QUANT_HARNESS_RUNTIME"] = runtime[:12]
    return found


def attend(words: list[str], env: dict[str, str]) -> tuple[int | None, str, str]:
    """Run a child to its end, with signs of life; gives its code (None if it took too long), output and standard error."""
    pipe = subprocess.PIPE
    child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=env, start_new_session=True)
    deadline, late = time.monotonic() + CHILD_SECONDS, False
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            out, log = child.communicate(timeout=ALIVE_SECONDS)
            return None if late else child.returncode, out.decode(errors="replace"), log.decode(errors="replace")
        say("alive")
        late = time.monotonic() > deadline
        if late:
            os.killpg(child.pid, signal.SIGKILL)


def ending(code: int | None, log: str) -> str:
    """Words for how a child ended."""
    if code is None:
        return "it took more than %g s" % CHILD_SECONDS
    last = ([line.strip() for line in log.splitlines() if line.strip()] or ["no message"])[-1]
    return ("killed by %s; last words: %s" % (signal.Signals(-code).name, last) if code < 0 else last)[:MESSAGE_LIMIT]


def probe(*programs: str) -> None:
    """Pass on what the prober (with the runner's programs) says of this device, and which runtime it found."""
    missing = [program for program in programs if not os.path.exists(blob_path(program))]
    if missing:
        say("missing", sha256=missing)
        return
    env = environment(current())
    code, out, log = attend([sys.executable, *map(blob_path, programs)], env)
    if code != 0:
        raise ValueError("its prober failed: " + ending(code, log))
    say(**dict(json.loads(out.splitlines()[-1]), runtime=env.get("QUANT_HARNESS_RUNTIME")))


def start(job: str, program: str, runner: str) -> None:
    """Write the request, then run the job detached from this process and its link."""
    request = json.loads(sys.stdin.buffer.read())
    if request.get("protocol") != PROTOCOL:
        raise ValueError("this agent speaks protocol %d, not %r" % (PROTOCOL, request.get("protocol")))
    for needed in (program, runner, request["prober"], request["checks"]):
        if not os.path.exists(blob_path(needed)):
            raise ValueError("%s is not in the store" % needed)
    os.makedirs(job_path(job, "outputs"), mode=0o700)
    with open(job_path(job, "request.json"), "w", encoding="utf-8") as file:
        json.dump(request, file)
    open(job_path(job, "journal.jsonl"), "wb").close()
    # The lock is taken here and inherited, so that no follower can find it free before the job holds it.
    lock = open(job_path(job, "lock"), "wb")
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.set_inheritable(lock.fileno(), True)  # noqa: FBT003
    with open(job_path(job, "log"), "wb") as log:
        child = subprocess.Popen(
            [sys.executable, blob_path(program), job_path(job), blob_path(runner)], env=environment(current()),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, pass_fds=[lock.fileno()],
        )  # fmt: skip
    write_whole(job_path(job, "pid"), str(child.pid))
    say("started", pid=child.pid)


def write_whole(path: str, text: str) -> None:
    """Write a small file beside its place and rename it."""
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
    os.rename(path + ".new", path)


def follow(job: str, offset: str) -> None:
    """Write the journal from an offset on, until the job has ended."""
    with open(job_path(job, "journal.jsonl"), "rb") as journal, open(job_path(job, "lock"), "rb") as lock:
        journal.seek(int(offset))
        rest, quiet_since = b"", time.monotonic()
        while True:
            ended = not is_locked(lock)
            data = journal.read(CHUNK)
            if data:
                whole, newline, rest = (rest + data).rpartition(b"\n")
                sys.stdout.buffer.write(whole + newline)
                sys.stdout.buffer.flush()
                quiet_since = time.monotonic()
            elif ended:
                break
            else:
                if time.monotonic() - quiet_since > ALIVE_SECONDS:
                    say("alive")
                    quiet_since = time.monotonic()
                time.sleep(0.05)
    if read_small(job_path(job, "rc")) == "0":
        say("ended")
    else:
        say("died", log="\n".join(read_small(job_path(job, "log")).splitlines()[-5:])[-MESSAGE_LIMIT:])


def is_locked(lock: BinaryIO) -> bool:
    """Whether the job's process still holds its lock."""
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(lock, fcntl.LOCK_UN)
    return False


def read(job: str, name: str) -> None:
    """Write a file of a job's outputs as base64 lines."""
    digest, size = hashlib.sha256(), 0
    with open(job_path(job, "outputs", name), "rb") as file:
        for data in iter(lambda: file.read(CHUNK), b""):
            digest.update(data)
            size += len(data)
            say("data", base64=base64.b64encode(data).decode())
    say("ended", size=size, sha256=digest.hexdigest())


def stop(job: str) -> None:
    """Ask a job to stop; kill its process group when it doesn't within five seconds."""
    pid = int(read_small(job_path(job, "pid")) or 0)
    with open(job_path(job, "lock"), "rb") as lock:
        running = is_locked(lock)
        for sign in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + STOP_SECONDS
            if running and pid and is_locked(lock):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sign) if sign == signal.SIGTERM else os.killpg(pid, sign)
                while is_locked(lock) and time.monotonic() < deadline:
                    time.sleep(0.05)
    say("stopped", was_running=running)


def release() -> None:
    """Stop the job that holds this device."""
    job = json.loads(read_small(os.path.join(store(), "lease")) or "{}").get("job")
    return stop(job) if job else say("stopped", was_running=False)


def main(words: list[str]) -> int:
    """Run one command; a failure is one line of the protocol."""
    known: list[Callable[..., None]] = [machine, receive, unpack, adopt, probe, start, follow, read, stop, release]
    commands = {function.__name__: function for function in known}
    try:
        commands[words[0]](*words[1:])
    except BrokenPipeError:
        os._exit(1)  # the reader is gone: there is nobody to tell
    except (OSError, ValueError, EOFError, KeyError, IndexError, TypeError) as error:
        text = "%s: %s" % (error.strerror, error.filename or store()) if isinstance(error, OSError) else str(error)
        say("error", kind=type(error).__name__, message=text[:MESSAGE_LIMIT])
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
