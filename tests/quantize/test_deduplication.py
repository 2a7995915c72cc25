from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from harness.quantize import build as building
from harness.quantize import method
from harness.quantize.build import build
from harness.quantize.context import BuildContext
from harness.quantize.deduplication import Sharing
from harness.quantize.recipe import Recipe, Variant
from harness.study.study import Study
from tests.quantize.conftest import patch_make

Write = Callable[[str], Study]
TWINS = """
[variants]
methods = ["dynamic", "static"]
formats = ["QDQ"]
activations = ["QUInt8"]
weights = ["QInt8"]
calibrations = ["MinMax", "Entropy"]
op_types = [["Conv"], ["Conv", "Erf"]]
per_channel = [false, true]
"""


def made(study: Study, folder: Path) -> dict[str, Variant]:
    return {variant.name: variant for variant in build(study, folder)}


def test_twins_that_are_known_are_made_once(write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def counted(recipe: Recipe, context: BuildContext, path: Path) -> tuple[str, ...]:
        asked.append(recipe.name)
        return original(recipe, context, path)

    original = method.named("static").make
    patch_make(monkeypatch, "static", counted)
    found = made(write_study(TWINS), tmp_path / "out")
    # Eight static recipes: per tensor and per channel.
    assert asked == ["static-QDQ-U8S8-Conv", "static-QDQ-U8S8-pc-Conv"]
    files = {variant.path for variant in found.values() if variant.recipe.method == "static"}
    assert {path.name for path in files if path} == {"static-QDQ-U8S8-Conv.onnx", "static-QDQ-U8S8-pc-Conv.onnx"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "dynamic-S8-Conv.onnx",
        "fp32.onnx",
        "static-QDQ-U8S8-Conv.onnx",
        "static-QDQ-U8S8-pc-Conv.onnx",
    ]
    shared = found["static-QDQ-U8S8-Entropy-Conv+Erf"]
    assert shared.notes == ("the same file as static-QDQ-U8S8-Conv",)
    assert shared.sha256 == found["static-QDQ-U8S8-Conv"].sha256
    assert all(variant.state == "made" for variant in found.values())


def test_a_twin_of_what_failed_has_failed(write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object) -> tuple[str, ...]:
        message = "no"
        raise ValueError(message)

    patch_make(monkeypatch, "static", explode)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "static-QDQ-U8S8-Entropy-Conv.onnx").write_bytes(b"of an earlier build")
    found = made(write_study(TWINS), tmp_path / "out")
    assert found["static-QDQ-U8S8-Entropy-Conv"].reason == "as static-QDQ-U8S8-Conv: ValueError: no"
    assert not (tmp_path / "out" / "static-QDQ-U8S8-Entropy-Conv.onnx").exists()


def test_files_that_turn_out_the_same_are_shared(write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No rule knows that of two names for one recipe, and the files differ in names of nodes."""
    original = method.named("static").make

    def renamed(recipe: Recipe, context: BuildContext, path: Path) -> tuple[str, ...]:
        notes = original(recipe, context, path)
        model = onnx.load(path)
        for node in model.graph.node:
            node.name += f"-{recipe.name}"
        onnx.save(model, path)
        return notes

    patch_make(monkeypatch, "static", renamed)
    monkeypatch.setattr("harness.quantize.deduplication.twins", lambda *_: {})
    text = "".join(f'[[variant]]\nname = "{name}"\nmethod = "static"\n' for name in ("one", "two"))
    found = made(write_study(f'[variants]\nmethods = ["fp32"]\n{text}'), tmp_path / "out")
    assert (found["two"].path, found["two"].sha256) == (found["one"].path, found["one"].sha256)
    assert found["two"].notes == ("the same file as one",)
    assert not (tmp_path / "out" / "two.onnx").exists()


def test_a_second_build_with_the_cache_gives_the_same(write_study: Write, tmp_path: Path) -> None:
    study = write_study(TWINS)
    first = build(study, tmp_path / "out", cache=tmp_path / "cache")
    again = build(study, tmp_path / "out", cache=tmp_path / "cache")
    assert [(each.name, each.path, each.sha256, each.notes) for each in first] == [
        (each.name, each.path, each.sha256, each.notes) for each in again
    ]


def test_rules_of_the_model_bar_a_recipe(write_study: Write, tmp_path: Path) -> None:
    options = 'extra_options = [{ CalibTensorRangeSymmetric = true }]\nskip_steps = ["keep-clamps"]'
    found = made(write_study(f'[variants]\nmethods = ["static"]\nformats = ["QDQ"]\n{options}\n'), tmp_path / "out")
    states = {variant.state for variant in found.values() if variant.recipe.method == "static"}
    assert states == {"impossible"}


def test_the_reference_keeps_its_own_file(cnn: Path, tmp_path: Path) -> None:
    from harness.quantize.model.model import read_model

    fp32 = Variant(recipe=Recipe(name="fp32", method="fp32"), state="made", path=cnn, sha256="a", size=1)
    prepared = Variant(
        recipe=Recipe(name="prepared", method="prepared"), state="made", path=tmp_path / "p.onnx", sha256="b", size=1
    )
    (tmp_path / "p.onnx").write_bytes(cnn.read_bytes())
    sharing = Sharing([fp32.recipe, prepared.recipe], read_model(cnn))
    assert sharing.settle(prepared, [fp32]) == prepared
    assert sharing.known(prepared.recipe, [fp32]) is None
    assert building.needs_calibration([prepared.recipe]) is False
