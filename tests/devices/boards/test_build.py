from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.devices.boards import build as builds
from harness.devices.boards import image as images
from harness.devices.boards import packages
from harness.devices.boards.image import Image
from harness.devices.boards.recipe import ImageRecipe
from harness.devices.boards.site import Site
from harness.errors import DeviceError, UsageError

RELEASE = "6.1.0-1-cloud-arm64"


def index() -> str:
    entries = [
        ("linux-image-cloud-arm64", f"linux-image-{RELEASE} (= 6.1)"),
        (f"linux-image-{RELEASE}", ""),
        ("busybox-static", ""),
    ]
    return "\n".join(
        f"Package: {name}\nVersion: 1\nDepends: {depends}\nFilename: {name}.deb\nSize: 1\nSHA256: 0\n"
        for name, depends in entries
    )


def unpack(_: Path, folder: Path) -> None:
    """Stands for dpkg-deb: kernel, drivers, busybox."""
    drivers = folder / "lib/modules" / RELEASE / "kernel"
    for path in (
        folder / "boot" / f"vmlinuz-{RELEASE}",
        folder / "bin/busybox",
        *(drivers / f"{name}.ko" for name in ImageRecipe().modules),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Build without root: the commands are noted, and leave what the next step needs."""
    done: list[list[str]] = []

    def run(site: Site, words: list[str], _: object = None) -> None:
        done.append(words)
        if words[0] == "mke2fs":
            (site.work / "image" / "disk.img").write_bytes(b"disk")
            return
        lists = site.root / "var/lib/apt/lists"
        lists.mkdir(parents=True)
        (lists / "m_dists_bookworm_main_binary-arm64_Packages").write_text(index())

    monkeypatch.setattr(Site, "run", run)
    monkeypatch.setattr(builds, "is_native", lambda: True)
    monkeypatch.setattr(packages, "fetch", lambda *_: Path("x.deb"))
    monkeypatch.setattr(packages, "unpack", unpack)
    return done


def test_an_image_is_built_once_and_nothing_else_stays(steps: list[list[str]], tmp_path: Path) -> None:
    said: list[str] = []
    image, built = builds.build(tmp_path / "b", said.append, "http://m.example/debian/")
    assert built
    assert images.find(tmp_path / "b") == image
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["build.lock", image.folder.name]
    assert json.loads((image.folder / "image.json").read_text())["kernel"] == RELEASE
    assert image.kernel.read_text() == f"vmlinuz-{RELEASE}"
    packed = image.initramfs.read_bytes()
    assert packed.index(b"modules/00-virtio.ko") < packed.index(b"modules/08-virtio_net.ko")
    assert [words[0] for words in steps] == ["setpriv", "mke2fs"]
    assert "http://m.example/debian" in steps[0]
    assert steps[1][-1] == "3000M"
    assert said[0].startswith("building the image of a board from http://m.example/debian: about 4 minutes")
    assert builds.build(tmp_path / "b", said.append) == (image, False)
    assert len(steps) == 2


@pytest.mark.usefixtures("steps")
@pytest.mark.parametrize("fault", [KeyboardInterrupt(), DeviceError("board image", "mke2fs", "no space")])
def test_a_build_that_was_cut_off_leaves_no_image_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise fault

    with monkeypatch.context() as patched:
        patched.setattr(builds, "_disk", fail)
        with pytest.raises(type(fault)):
            builds.build(tmp_path, lambda _: None)
    assert not (tmp_path / "building").exists()
    assert list(tmp_path.glob("image-*")) == []
    # As kill -9 would leave it.
    (tmp_path / "building" / "root" / "proc").mkdir(parents=True)
    _, built = builds.build(tmp_path, lambda _: None)
    assert built


def test_two_builds_at_once_make_one_image(steps: list[list[str]], tmp_path: Path) -> None:
    said: list[str] = []
    found: list[tuple[Image, bool]] = []
    threads = [threading.Thread(target=lambda: found.append(builds.build(tmp_path, said.append))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(built for _, built in found) == [False, True]
    assert len(steps) == 2


@pytest.mark.usefixtures("steps")
def test_a_kernel_without_a_driver_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(deb: Path, folder: Path) -> None:
        unpack(deb, folder)
        for path in folder.rglob("virtio_net.ko"):
            path.unlink()

    monkeypatch.setattr(packages, "unpack", without)
    with pytest.raises(DeviceError, match="has no module virtio_net"):
        builds.build(tmp_path, lambda _: None)


def test_a_step_that_fails_shows_the_end_of_the_log(tmp_path: Path) -> None:
    site = Site(tmp_path, "http://m", ImageRecipe(), lambda _: None)
    with pytest.raises(DeviceError, match=r"board image: sh: it failed; the end of .*build\.log:\nE: no such mirror"):
        site.run(["sh", "-c", "echo 'E: no such mirror' >&2; exit 3"])


def test_no_process_outlives_a_step_that_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path, "http://m", ImageRecipe(), lambda _: None)
    real = subprocess.Popen.wait
    started: list[subprocess.Popen[bytes]] = []

    def wait(self: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        if not started:
            started.append(self)
            raise KeyboardInterrupt
        return real(self, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    with pytest.raises(KeyboardInterrupt):
        site.run(["sleep", "60"])
    assert started[0].poll() == -9


def test_a_folder_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file/b: can't be written"):
        builds.build(tmp_path / "file" / "b", lambda _: None)


@pytest.mark.usefixtures("steps")
def test_what_root_builds_belongs_to_the_user_behind_sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[str, int]] = []
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_UID", "1")
    monkeypatch.setattr("shutil.chown", lambda path, uid, _: given.append((path.name, uid)))
    image, _ = builds.build(tmp_path / "a" / "b", lambda _: None)
    names = [name for name, uid in given if uid == 1]
    assert names[:2] == ["b", "a"]
    assert sorted(names[2:]) == ["disk.img", "image", "image.json", "initramfs", "vmlinuz"]
    assert image.size > 0


def test_an_image_that_is_there_needs_neither_root_nor_programs(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    (image.folder.parent / "image-0123").mkdir()
    done = CliRunner().invoke(app, ["board", "build", "--folder", str(image.folder.parent)])
    assert done.exit_code == 0
    assert "was built before" in done.stdout
    assert "image-0123" in done.stdout
    said = json.loads(CliRunner().invoke(app, ["board", "build", "--json", "--folder", str(image.folder.parent)]).stdout)
    assert (said["image"], said["built"]) == (str(image.folder), False)
