"""The place where an image is built: its folders, its log, and who may work there."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import shutil
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.devices.boards.image import user_behind_sudo
from harness.devices.boards.packages import WHO
from harness.devices.boards.prerequisites import tool
from harness.errors import DeviceError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harness.devices.boards.recipe import ImageRecipe

WORK = "building"
DEBS = "downloads"
LOG = "build.log"
LOCK = "build.lock"
TAIL_LINES = 12


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
    recipe: ImageRecipe
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

    def run(self, words: list[str], environment: dict[str, str] | None = None) -> None:
        """Run a command, its words in the log.

        Raises:
            DeviceError: with the end of the log, if it fails.
        """
        path = self.folder / LOG
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
            raise DeviceError(WHO, words[0] if words[0] != "setpriv" else "debootstrap", f"it failed; the end of {path}:\n{tail}")

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Say a step before it starts, and how long it took."""
        self.say(title)
        start = time.monotonic()
        yield
        self.say(f"    done in {time.monotonic() - start:.0f} s")


@contextlib.contextmanager
def alone(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
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
    if user is not None:
        for path in new:
            shutil.chown(path, user.pw_uid, user.pw_gid)


def hand_over(folder: Path) -> None:
    """Give the image to the user behind sudo."""
    user = user_behind_sudo()
    if user is not None:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, user.pw_uid, user.pw_gid)
