from __future__ import annotations

from pathlib import Path

import pytest

from harness.devices.boards.mirror import DEFAULT, mirror

STANZAS = """\
# ours
Types: deb
URIs: http://lab.example/debian/
Suites: trixie trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://lab.example/debian-security
Suites: trixie-security
Components: main
"""

OF_A_PI = """\
deb http://archive.raspberrypi.com/debian bookworm main
deb http://d.example/debian bookworm main
deb http://d.example/debian bookworm-updates main
"""


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("sources.list", "", DEFAULT),
        ("sources.list", "deb http://archive.ubuntu.com/ubuntu noble main universe", DEFAULT),
        ("sources.list", "deb [signed-by=/k.gpg arch=amd64] https://lab.example/debian bookworm main # ours", "https://lab.example/debian"),
        ("sources.list", "#deb http://off.example/debian bookworm main\n", DEFAULT),
        ("sources.list", OF_A_PI, "http://d.example/debian"),
        ("sources.list", "deb http://snapshot.debian.org/archive/debian/20250520T000000Z bookworm main",
                         "http://snapshot.debian.org/archive/debian/20250520T000000Z"),
        ("sources.list", "deb https://packages.example.com/debian/12/prod bookworm main", DEFAULT),
        ("sources.list", "deb mirror+file:/etc/apt/mirrors/debian bookworm main", DEFAULT),
        ("sources.list.d/debian.sources", STANZAS, "http://lab.example/debian"),
        ("sources.list.d/debian.sources", STANZAS.replace("Types", "Enabled: no\nTypes"), DEFAULT),
        ("sources.list.d/debian.sources.save", STANZAS, DEFAULT),
    ],
)  # fmt: skip
def test_the_mirror_is_the_one_of_this_machine(tmp_path: Path, name: str, text: str, expected: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    assert mirror(tmp_path) == expected
