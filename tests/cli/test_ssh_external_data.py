"""A model's external data is checked before anything goes to a device: what lies elsewhere on this machine stays here."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from tests.cli.conftest import Command
from tests.sshd import SshServer

pytestmark = [pytest.mark.ssh, pytest.mark.slow]

SECRET = b"a private key, as far as this test goes. " * 400


def absolute(_folder: Path, secret: Path) -> str:
    return str(secret.resolve())


def above(folder: Path, secret: Path) -> str:
    return os.path.relpath(secret, folder)


def symbolic_link(folder: Path, secret: Path) -> str:
    (folder / "link").symlink_to(secret.resolve())
    return "link"


def hard_link(folder: Path, secret: Path) -> str:
    os.link(secret, folder / "hard")
    return "hard"


def linked_folder(folder: Path, secret: Path) -> str:
    (folder / "sub").symlink_to(secret.parent.resolve())
    return "sub/secret"


def beside(folder: Path, secret: Path) -> str:
    (folder / "beside").write_bytes(secret.read_bytes())
    return "beside"


def points_to(study: Path, location: Callable[[Path, Path], str]) -> None:
    """Make the study's model keep its tensors in a file elsewhere."""
    elsewhere = Path("elsewhere")
    elsewhere.mkdir()
    (elsewhere / "secret").write_bytes(SECRET)
    model = study / "model.onnx"
    proto = onnx.load(model)
    onnx.save(proto, model, save_as_external_data=True, location="data", size_threshold=0)
    (study / "data").unlink()
    proto = onnx.load(model, load_external_data=False)
    place = location(study, elsewhere / "secret")
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = place
    model.write_bytes(proto.SerializeToString())


@pytest.mark.parametrize("methods", ['["fp32"]', '["given"]', '["dynamic", "static"]'])
@pytest.mark.parametrize("location", [absolute, above, symbolic_link, hard_link, linked_folder])
def test_what_lies_elsewhere_never_leaves_this_machine(
    harness: Command, study: Path, sshd: SshServer, location: Callable[[Path, Path], str], methods: str
) -> None:
    Path("devices.toml").write_text(sshd.entry("board"))
    file = study / "study.toml"
    file.write_text(file.read_text().replace("[measure]", f"[variants]\nmethods = {methods}\n[measure]"))
    points_to(study, location)
    done = harness("run", str(study), "--device", "board")
    assert done.code == 2, done.err
    assert "external data" in done.err
    assert not sshd.store.exists(), "nothing was asked of the board"
    assert not list(Path("results").rglob("*.onnx"))


def test_what_lies_beside_the_model_goes_with_it(harness: Command, study: Path, sshd: SshServer) -> None:
    Path("devices.toml").write_text(sshd.entry("board"))
    file = study / "study.toml"
    file.write_text(file.read_text().replace("[measure]", '[variants]\nmethods = ["given"]\n[measure]'))
    points_to(study, beside)
    done = harness("run", str(study), "--device", "board", "--rounds", "1")
    assert done.code == 0, done.err
    blobs = [path.read_bytes() for path in (sshd.store / "blobs" / "sha256").iterdir()]
    assert any(SECRET[:100] in blob for blob in blobs)
