"""Images on disk: where they are, which one is wanted, and what else is there."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from harness.devices.boards.recipe import ImageRecipe
from harness.errors import UsageError
from harness.paths import cache

PREFIX = "image-"


@dataclass(frozen=True)
class Image:
    """A finished image: a folder that was renamed into place when all of it was there."""

    folder: Path

    @property
    def key(self) -> str:
        """The recipe's key."""
        return self.folder.name.removeprefix(PREFIX)

    @property
    def disk(self) -> Path:
        """The raw disk, sparse; boards only read it."""
        return self.folder / "disk.img"

    @property
    def kernel(self) -> Path:
        """The kernel, as Debian ships it."""
        return self.folder / "vmlinuz"

    @property
    def initramfs(self) -> Path:
        """The first file system, without the keys that each board adds."""
        return self.folder / "initramfs"

    @property
    def size(self) -> int:
        """Bytes that it takes on disk."""
        return sum(path.stat().st_blocks * 512 for path in self.folder.iterdir())


def user_behind_sudo() -> pwd.struct_passwd | None:
    """The user who became root with sudo, or None: files that root builds belong to this user."""
    uid = os.environ.get("SUDO_UID", "")
    if os.geteuid() != 0 or not uid.isdecimal():
        return None
    try:
        return pwd.getpwuid(int(uid))
    except KeyError:
        return None


def folder_of_images(given: Path | None) -> Path:
    """Say where images are kept: the folder given, the cache of the user behind sudo, or one's own cache."""
    user = user_behind_sudo()
    if given is not None:
        return given.absolute()
    if user is not None and not os.environ.get("QUANT_HARNESS_HOME"):
        return Path(user.pw_dir) / ".cache" / "quant-harness" / "boards"
    return cache().absolute() / "boards"


def wanted(folder: Path, recipe: ImageRecipe) -> Image:
    """Name the image of a recipe, whether it is there or not."""
    return Image(folder / f"{PREFIX}{recipe.key()}")


def find(given: Path | None) -> Image:
    """Find the image of today's recipe.

    Raises:
        UsageError: if it was not built yet or can't be read.
    """
    folder = folder_of_images(given)
    image = wanted(folder, ImageRecipe())
    if not image.folder.is_dir():
        older = " (only older ones, of another recipe)" if others(image) else ""
        place = f" --folder {given}" if given is not None else ""
        message = f"{folder} has no image for boards{older}; to build it once, as root: harness board build{place}"
        raise UsageError(message)
    for path in (image.disk, image.kernel, image.initramfs):
        if not os.access(path, os.R_OK):
            message = f"{path}: can't be read by this user; build your own image, or give another folder: --folder"
            raise UsageError(message)
    return image


def others(image: Image) -> list[Image]:
    """List the images beside this one, of other recipes."""
    found = sorted(image.folder.parent.glob(f"{PREFIX}*")) if image.folder.parent.is_dir() else []
    return [Image(path) for path in found if path != image.folder and path.is_dir()]
