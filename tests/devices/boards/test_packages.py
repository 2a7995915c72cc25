from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from harness.devices.boards import packages
from harness.errors import DeviceError

CONTENT = b"a package"
INDEX = f"""\
Package: other
Version: 1
Filename: pool/other.deb
Size: 1
SHA256: 00

Package: tool
Version: 2:1.0-1
Depends: libc6 (>= 2.36), helper:any | other, last
Description: a tool
 Package: other
Filename: pool/tool.deb
Size: {len(CONTENT)}
SHA256: {hashlib.sha256(CONTENT).hexdigest()}
"""


@pytest.fixture
def tool(tmp_path: Path) -> packages.Package:
    (tmp_path / "Packages").write_text(INDEX)
    (tmp_path / "mirror" / "pool").mkdir(parents=True)
    (tmp_path / "mirror" / "pool" / "tool.deb").write_bytes(CONTENT)
    return packages.find(tmp_path / "Packages", "tool")


def test_a_package_is_found_in_the_index(tool: packages.Package, tmp_path: Path) -> None:
    assert (tool.version, tool.path, tool.size) == ("2:1.0-1", "pool/tool.deb", len(CONTENT))
    assert tool.depends == ("libc6", "helper", "last")
    assert packages.find(tmp_path / "Packages", "other").version == "1"
    with pytest.raises(DeviceError, match="no package lacking"):
        packages.find(tmp_path / "Packages", "lacking")


def test_a_package_is_fetched_once_and_verified(tool: packages.Package, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/mirror"
    path = packages.fetch(tool, url, None, tmp_path)
    assert path.read_bytes() == CONTENT
    (tmp_path / "mirror" / "pool" / "tool.deb").unlink()
    assert packages.fetch(tool, url, None, tmp_path) == path


def test_another_package_than_promised_is_refused(tool: packages.Package, tmp_path: Path) -> None:
    (tmp_path / "mirror" / "pool" / "tool.deb").write_bytes(CONTENT[::-1])
    with pytest.raises(DeviceError, match="checksum mismatch: the index has"):
        packages.fetch(tool, f"file://{tmp_path}/mirror", None, tmp_path)


def test_a_mirror_that_does_not_answer_is_named(tool: packages.Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "PAUSE_SECONDS", 0)
    with pytest.raises(DeviceError, match=r"http://127\.0\.0\.1:9/pool/tool\.deb: .*refused"):
        packages.fetch(tool, "http://127.0.0.1:9", None, tmp_path)


def test_what_is_no_package_is_not_unpacked(tmp_path: Path) -> None:
    deb = tmp_path / "a.deb"
    deb.write_bytes(CONTENT)
    with pytest.raises(DeviceError, match=r"a\.deb"):
        packages.unpack(deb, tmp_path / "out")
