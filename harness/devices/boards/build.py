"""Building the image, step by step, in a folder beside its place; it is renamed when all of it is there.

An interrupted build leaves at most that folder and downloads; the next build removes them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from harness.devices.boards import cpio, packages
from harness.devices.boards.image import Image, wanted
from harness.devices.boards.mirror import mirror, proxy
from harness.devices.boards.prerequisites import USER_EMULATOR, is_native, tool
from harness.devices.boards.recipe import FILES, ImageRecipe
from harness.devices.boards.site import LOG, Site, alone, hand_over
from harness.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CLEAR_SECONDS = 10.0


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
    recipe = ImageRecipe()
    image = wanted(folder, recipe)
    with alone(folder, say):
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
    site.say(f"building the boards' image from {site.mirror}: about 4 minutes on two cores; it can be interrupted")
    new = site.work / "image"
    new.mkdir(parents=True)
    site.debs.mkdir(exist_ok=True)
    with site.step("1/4 Debian for arm64, its programs emulated (about 3 minutes)"):
        _bootstrap(site)
    with site.step("2/4 kernel and first file system (about 10 seconds)"):
        index = next((site.root / "var/lib/apt/lists").glob("*_main_binary-arm64_Packages"))
        kernel = _kernel(site, index, new)
    with site.step("3/4 disk (about 10 seconds)"):
        shutil.rmtree(site.root / "var/lib/apt/lists")
        _disk(site, new)
    with site.step("4/4 moving it to its folder"):
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
        hand_over(new)
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
    site.run(["setpriv", "--pdeathsig", "KILL", *apart, "sh", str(FILES / "bootstrap.sh"), *words], environment)


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
    site.run([*words, f"{site.recipe.disk_mib}M"])


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
