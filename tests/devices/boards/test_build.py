from __future__ import annotations

import hashlib
import json
import subprocess
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.devices.boards import build as builds
from harness.devices.boards import image as images
from harness.devices.boards import prerequisites
from harness.devices.boards.image import Image
from harness.devices.boards.recipe import ImageRecipe
from harness.devices.boards.site import Site
from harness.errors import DeviceError, UsageError

RELEASE = "6.1.0-1-cloud-arm64"
KERNEL = f"linux-image-{RELEASE}"


needs_tools = pytest.mark.skipif(
    not all(map(prerequisites.tool, ("dpkg-deb", "mke2fs"))), reason="no dpkg-deb or mke2fs: both are Debian's own"
)


class Mirror:
    """A folder that is a Debian mirror, with real packages in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = ""

    @property
    def url(self) -> str:
        return self.folder.as_uri()

    def add(self, name: str, *files: str, depends: str = "") -> None:
        """Pack files, each of which holds its own name."""
        root = self.folder / "roots" / name
        (root / "DEBIAN").mkdir(parents=True)
        control = f"Package: {name}\nVersion: 6.1\nArchitecture: arm64\nMaintainer: nobody\nDescription: a test\n"
        (root / "DEBIAN" / "control").write_text(control)
        for file in files:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text(Path(file).name)
        deb = self.folder / f"{name}.deb"
        subprocess.run(["dpkg-deb", "--build", "-Znone", "--root-owner-group", root, deb], check=True, capture_output=True)
        data = deb.read_bytes()
        self.index += (
            f"Package: {name}\nVersion: 6.1\nDepends: {depends}\nFilename: {deb.name}\nSize: {len(data)}\n"
            f"SHA256: {hashlib.sha256(data).hexdigest()}\n\n"
        )


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    """A mirror with a kernel, its drivers, and busybox."""
    made = Mirror(tmp_path / "mirror")
    drivers = [f"lib/modules/{RELEASE}/kernel/{name}.ko" for name in ImageRecipe().modules]
    made.add(KERNEL, f"boot/vmlinuz-{RELEASE}", *drivers)
    made.add("linux-image-cloud-arm64", depends=f"{KERNEL} (= 6.1)")
    made.add("busybox-static", "bin/busybox")
    return made


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch, mirror: Mirror) -> list[list[str]]:
    """Build without root: in debootstrap's place the mirror's index is put where apt keeps it. The other tools are the real ones."""
    done: list[list[str]] = []
    real = Site.run

    def run(site: Site, words: list[str], environment: dict[str, str] | None = None) -> None:
        done.append(words)
        if words[0] != "setpriv":
            real(site, words, environment)
            return
        lists = site.root / "var/lib/apt/lists"
        lists.mkdir(parents=True)
        (lists / "m_dists_bookworm_main_binary-arm64_Packages").write_text(mirror.index)
        (site.root / "etc").mkdir()
        (site.root / "etc" / "hostname").write_text("board")

    monkeypatch.setattr(Site, "run", run)
    monkeypatch.setattr(builds, "is_native", lambda: True)
    return done


@needs_tools
def test_an_image_is_built_once_and_nothing_else_stays(steps: list[list[str]], mirror: Mirror, tmp_path: Path) -> None:
    said: list[str] = []
    image, built = builds.build(tmp_path / "b", said.append, f"{mirror.url}/")
    assert built
    assert images.find(tmp_path / "b") == image
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["build.lock", image.folder.name]
    assert json.loads((image.folder / "image.json").read_text())["kernel"] == RELEASE
    assert image.kernel.read_text() == f"vmlinuz-{RELEASE}"
    packed = image.initramfs.read_bytes()
    assert packed.index(b"modules/00-virtio.ko") < packed.index(b"modules/08-virtio_net.ko")
    assert [words[0] for words in steps] == ["setpriv", "mke2fs"]
    assert mirror.url in steps[0]
    assert image.disk.stat().st_size == 3000 << 20
    assert on_disk(image, "cat /etc/hostname") == "board"
    assert "lists" not in on_disk(image, "ls -p /var/lib/apt"), "the index is not needed there"
    assert said[0].startswith(f"building the boards' image from {mirror.url}: about 4 minutes")
    assert builds.build(tmp_path / "b", said.append) == (image, False)
    assert len(steps) == 2


def on_disk(image: Image, request: str) -> str:
    """What the file system's own tool says of the one that was made."""
    words = [prerequisites.tool("debugfs") or "debugfs", "-R", request, str(image.disk)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


@needs_tools
@pytest.mark.usefixtures("steps")
@pytest.mark.parametrize("fault", [KeyboardInterrupt(), DeviceError("board image", "mke2fs", "no space")])
def test_a_build_that_was_cut_off_leaves_no_image_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: Mirror, fault: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise fault

    with monkeypatch.context() as patched:
        patched.setattr(builds, "_disk", fail)
        with pytest.raises(type(fault)):
            builds.build(tmp_path, lambda _: None, mirror.url)
    assert not (tmp_path / "building").exists()
    assert list(tmp_path.glob("image-*")) == []
    # As kill -9 would leave it.
    (tmp_path / "building" / "root" / "proc").mkdir(parents=True)
    _, built = builds.build(tmp_path, lambda _: None, mirror.url)
    assert built


@needs_tools
def test_two_builds_at_once_make_one_image(steps: list[list[str]], mirror: Mirror, tmp_path: Path) -> None:
    said: list[str] = []
    found: list[tuple[Image, bool]] = []
    threads = [threading.Thread(target=lambda: found.append(builds.build(tmp_path, said.append, mirror.url))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(built for _, built in found) == [False, True]
    assert len(steps) == 2


@needs_tools
@pytest.mark.usefixtures("steps")
def test_a_kernel_without_a_driver_is_an_error(mirror: Mirror, tmp_path: Path) -> None:
    other = "linux-image-6.2-cloud-arm64"
    drivers = [f"lib/modules/6.2-cloud-arm64/kernel/{name}.ko" for name in ImageRecipe().modules if name != "virtio_net"]
    mirror.add(other, "boot/vmlinuz-6.2-cloud-arm64", *drivers)
    mirror.index = mirror.index.replace(f"Depends: {KERNEL} (= 6.1)", f"Depends: {other} (= 6.2)")
    with pytest.raises(DeviceError, match=f"{other} has no module virtio_net"):
        builds.build(tmp_path / "b", lambda _: None, mirror.url)


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


@needs_tools
@pytest.mark.usefixtures("steps")
def test_what_root_builds_belongs_to_the_user_behind_sudo(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[str, int]] = []
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_UID", "1")
    monkeypatch.setattr("shutil.chown", lambda path, uid, _: given.append((path.name, uid)))
    image, _ = builds.build(tmp_path / "a" / "b", lambda _: None, mirror.url)
    names = [name for name, uid in given if uid == 1]
    assert names[:2] == ["b", "a"]
    assert sorted(names[2:]) == ["disk.img", "image", "image.json", "initramfs", "vmlinuz"]
    assert image.size > 0


def test_an_image_that_is_there_needs_neither_root_nor_programs(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    (image.folder.parent / "image-0123").mkdir()
    done = CliRunner().invoke(app, ["board", "build", "--folder", str(image.folder.parent)])
    assert done.exit_code == 0
    assert "exists already" in done.stdout
    assert "image-0123" in done.stdout
    said = json.loads(CliRunner().invoke(app, ["board", "build", "--json", "--folder", str(image.folder.parent)]).stdout)
    assert (said["image"], said["built"]) == (str(image.folder), False)
