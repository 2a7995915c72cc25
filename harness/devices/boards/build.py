"""Building the image, step by step, in a folder beside its place; it is renamed when all of it is there.

Whatever was cut off, by Ctrl-C or by force, leaves at most that folder and downloads; the next build clears up.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from harness.devices.boards import cpio, packages
from harness.devices.boards.image import Image, user_behind_sudo, wanted
from harness.devices.boards.mirror import mirror, proxy
from harness.devices.boards.prerequisites import USER_EMULATOR, is_native, tool
from harness.devices.boards.recipe import FILES, Recipe
from harness.errors import DeviceError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WORK = "building"
DEBS = "downloads"
LOG = "build.log"
LOCK = "build.lock"
TAIL_LINES = 12
CLEAR_SECONDS = 10.0


@dataclass(frozen=True)
class Site:
    """Where one build works.

    Attributes:
        folder: of all images.
        mirror: of Debian.
        say: takes a line for the user.
    """

    folder: Path
    mirror: str
    recipe: Recipe
    say: Callable[[str], None]

    @property
    def work(self) -> Path:
        """What is under construction."""
        return self.folder / WORK

    @property
    def root(self) -> Path:
        """The guest's root folder."""
        return self.work / "root"

    @property
    def debs(self) -> Path:
        """Downloaded packages; they outlive a build that was cut off."""
        return self.folder / DEBS

    @property
    def binfmt(self) -> str:
        """The name under which the kernel knows our interpreter while this folder's build runs."""
        return f"quant-harness-{hashlib.sha256(str(self.folder).encode()).hexdigest()[:8]}"


def build(folder: Path, say: Callable[[str], None], given_mirror: str | None = None) -> tuple[Image, bool]:
    """Build the image of today's recipe, unless it is there.

    Args:
        folder: of the images.
        say: takes a line for the user.
        given_mirror: of Debian; None takes this machine's own.

    Returns:
        The image, and whether it was built now.

    Raises:
        DeviceError: if a step fails; the log is kept.
        UsageError: if the folder can't be written.
    """
    recipe = Recipe()
    image = wanted(folder, recipe)
    with _alone(folder, say):
        if image.folder.is_dir():
            return image, False
        site = Site(folder, (given_mirror or mirror()).rstrip("/"), recipe, say)
        _clear(site)
        try:
            _make(site, image)
        finally:
            _clear(site)
        shutil.rmtree(site.debs, ignore_errors=True)
        (folder / LOG).unlink(missing_ok=True)
    return image, True


def _make(site: Site, image: Image) -> None:
    """Do the steps, and rename what they made into place."""
    site.say(f"building the image of a board from {site.mirror}: about 4 minutes on two cores; Ctrl-C is safe")
    new = site.work / "image"
    new.mkdir(parents=True)
    site.debs.mkdir(exist_ok=True)
    with _step(site, "1/4 Debian for arm64, its programs emulated (about 3 minutes)"):
        _bootstrap(site)
    with _step(site, "2/4 kernel and first file system (about 10 seconds)"):
        index = next((site.root / "var/lib/apt/lists").glob("*_main_binary-arm64_Packages"))
        kernel = _kernel(site, index, new)
    with _step(site, "3/4 disk (about 10 seconds)"):
        shutil.rmtree(site.root / "var/lib/apt/lists")
        _disk(site, new)
    with _step(site, "4/4 into place"):
        facts = {
            "recipe": asdict(site.recipe),
            "built": datetime.now(UTC).isoformat(timespec="seconds"),
            "mirror": site.mirror,
            "kernel": kernel,
        }
        (new / "image.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
        for path in new.iterdir():
            path.chmod(0o644)
        new.chmod(0o755)
        _hand_over(new)
        new.rename(image.folder)


def _bootstrap(site: Site) -> None:
    """Install Debian and the guest's own files into the root folder."""
    recipe = site.recipe
    words = [str(site.root), recipe.suite, site.mirror, ",".join(recipe.packages), str(site.debs), str(FILES)]
    if not is_native():
        words += [site.binfmt, tool(USER_EMULATOR) or USER_EMULATOR]
    environment = dict(os.environ)
    found = proxy()
    if found:
        environment.setdefault("http_proxy", found)
    # In namespaces of their own mounts and processes end with the first process, and that one ends with us, even by SIGKILL.
    apart = ["unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child"]
    _run(site, ["setpriv", "--pdeathsig", "KILL", *apart, "sh", str(FILES / "bootstrap.sh"), *words], environment)


def _kernel(site: Site, index: Path, new: Path) -> str:
    """Fetch kernel and busybox, and pack the first file system.

    Returns:
        The kernel's version.
    """
    recipe = site.recipe
    meta = packages.find(index, recipe.kernel)
    name = next(depends for depends in meta.depends if depends.startswith("linux-image-"))
    unpacked = site.work / "kernel"
    for package in (packages.find(index, name), packages.find(index, recipe.busybox)):
        packages.unpack(packages.fetch(package, site.mirror, proxy(), site.debs), unpacked)
    release = name.removeprefix("linux-image-")
    shutil.copyfile(unpacked / "boot" / f"vmlinuz-{release}", new / "vmlinuz")
    drivers = {path.stem: path for path in (unpacked / "lib" / "modules" / release).rglob("*.ko")}
    missing = [module for module in recipe.modules if module not in drivers]
    if missing:
        raise DeviceError(packages.WHO, "kernel", f"{name} has no module {', '.join(missing)}")
    files = {
        "init": (0o755, (FILES / "initramfs-init").read_bytes()),
        "bin/busybox": (0o755, (unpacked / "bin" / "busybox").read_bytes()),
        **{
            f"modules/{number:02}-{module}.ko": (0o644, drivers[module].read_bytes())
            for number, module in enumerate(recipe.modules)
        },
    }
    (new / "initramfs").write_bytes(cpio.archive(files, folders=("dev", "proc", "root")))
    return release


def _disk(site: Site, new: Path) -> None:
    """Make the disk from the root folder."""
    words = ["mke2fs", "-q", "-t", "ext4", *site.recipe.ext4, "-d", str(site.root), str(new / "disk.img")]
    _run(site, [*words, f"{site.recipe.disk_mib}M"])


def _run(site: Site, words: list[str], environment: dict[str, str] | None = None) -> None:
    """Run a command, its words in the log.

    Raises:
        DeviceError: with the end of the log, if it fails.
    """
    path = site.folder / LOG
    with path.open("ab") as log:
        process = subprocess.Popen(
            [tool(words[0]) or words[0], *words[1:]], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
        )
        try:
            code = process.wait()
        finally:
            process.kill()
            process.wait()
    if code:
        tail = "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:])
        raise DeviceError(
            packages.WHO, words[0] if words[0] != "setpriv" else "debootstrap", f"it failed; the end of {path}:\n{tail}"
        )


@contextlib.contextmanager
def _step(site: Site, title: str) -> Iterator[None]:
    """Say a step before it starts, and how long it took."""
    site.say(title)
    start = time.monotonic()
    yield
    site.say(f"    done in {time.monotonic() - start:.0f} s")


@contextlib.contextmanager
def _alone(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Keep other builds in the same folder waiting.

    Raises:
        UsageError: if the folder can't be written.
    """
    try:
        _make_folder(folder)
        lock = (folder / LOCK).open("w")
    except OSError as exc:
        message = f"{folder}: can't be written: {exc.strerror}"
        raise UsageError(message) from exc
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another build is under way; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make_folder(folder: Path) -> None:
    """Make a folder; those above that are new belong to the user behind sudo."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    user = user_behind_sudo()
    if user is None:
        return
    for path in new:
        shutil.chown(path, user.pw_uid, user.pw_gid)


def _hand_over(folder: Path) -> None:
    """Give the image to the user behind sudo."""
    user = user_behind_sudo()
    if user is not None:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, user.pw_uid, user.pw_gid)


def _clear(site: Site) -> None:
    """Remove what a build leaves, or one before it left: processes and mounts are gone with their namespaces."""
    if not is_native():
        words = [tool("unshare") or "unshare", "--mount", "sh", str(FILES / "binfmt.sh"), "remove", site.binfmt]
        subprocess.run(words, capture_output=True, check=False)
    deadline = time.monotonic() + CLEAR_SECONDS
    while site.work.exists():
        # Programs that were killed a moment ago may still be writing.
        shutil.rmtree(site.work, ignore_errors=True)
        if site.work.exists() and time.monotonic() > deadline:
            raise DeviceError(packages.WHO, "clear", f"{site.work} can't be removed")
        time.sleep(0.1)
