from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.devices.boards import image as images
from harness.devices.boards.recipe import FILES, ImageRecipe
from harness.errors import UsageError


def test_a_changed_parameter_names_another_image() -> None:
    recipe = ImageRecipe()
    assert recipe.key() == ImageRecipe().key()
    assert replace(recipe, packages=(*recipe.packages, "gdb")).key() != recipe.key()
    assert replace(recipe, disk_mib=4000).key() != recipe.key()


def test_a_changed_or_new_script_names_another_image(tmp_path: Path) -> None:
    copy = tmp_path / "files"
    shutil.copytree(FILES, copy)
    before = ImageRecipe().key(copy)
    assert before == ImageRecipe().key()
    script = copy / "guest-init"
    script.write_text(script.read_text() + "\n")
    changed = ImageRecipe().key(copy)
    (copy / "extra").write_text("")
    assert len({before, changed, ImageRecipe().key(copy)}) == 3


def test_the_image_that_is_not_built_yet_is_named_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{tmp_path} has no image for boards; .*harness board build --folder {tmp_path}"):
        images.find(tmp_path)
    (tmp_path / "image-0123").mkdir()
    with pytest.raises(UsageError, match="only older ones"):
        images.find(tmp_path)


def test_an_image_in_the_cache_is_found(image: images.Image, tmp_path: Path) -> None:
    assert images.find(tmp_path / "images") == image
    assert image.key == ImageRecipe().key()
    assert images.folder_of_images(None) == tmp_path / "store" / "boards"


def test_root_by_sudo_builds_for_the_user_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_UID", "0")
    monkeypatch.delenv("QUANT_HARNESS_HOME")
    assert images.folder_of_images(None) == Path("/root/.cache/quant-harness/boards")
    monkeypatch.setenv("SUDO_UID", "4294967000")
    assert images.user_behind_sudo() is None
