"""An image to boot, where one was built, and an emulator that is none, for what needs no board."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from harness.devices.boards import image as images
from harness.devices.boards.image import Image
from harness.devices.boards.recipe import ImageRecipe
from harness.errors import UsageError

# Before any test has an environment of its own.
_GIVEN = os.environ.get("HARNESS_BOARDS")
IMAGES = images.folder_of_images(Path(_GIVEN) if _GIVEN else None)

EMULATOR = """\
#!{python}
import os, sys, time
words = sys.argv[1:]
value = lambda name: words[words.index(name) + 1]
if "{fault}":
    sys.exit("{fault}")
if os.fork():
    os._exit(0)
os.setsid()
open(value("-serial").removeprefix("file:"), "w").write("booting\\n\\nKernel panic\\n")
open(value("-pidfile") + ".new", "w").write(str(os.getpid()))
os.rename(value("-pidfile") + ".new", value("-pidfile"))
os.close(1), os.close(2)
time.sleep({life})
"""


@pytest.fixture(autouse=True)
def _no_shared_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_BOARDS", raising=False)
    monkeypatch.delenv("SUDO_UID", raising=False)


@pytest.fixture
def built() -> Image:
    """The image of today's recipe, as 'harness board build' made it."""
    try:
        return images.find(IMAGES)
    except UsageError as exc:
        pytest.skip(str(exc))


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """Files in the place of an image."""
    found = images.wanted(tmp_path / "images", ImageRecipe())
    found.folder.mkdir(parents=True)
    for path in (found.disk, found.kernel, found.initramfs):
        path.write_bytes(bytes(512))
    return found


class FakeEmulator:
    """A program called as QEMU is, that does nothing for a while."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "qemu-system-aarch64"
        self.become()

    def become(self, fault: str = "", life: float = 30) -> None:
        """Say what it does: fail at once, or live so many seconds."""
        self.path.write_text(EMULATOR.format(python=sys.executable, fault=fault, life=life))
        self.path.chmod(self.path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeEmulator:
    """A fake emulator, first on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return FakeEmulator(folder)
