"""Where the model files of a run are found again."""

from __future__ import annotations

from pathlib import Path

from harness.quantize.recipe import Variant
from harness.records.variant_files import located
from tests.report.runs import lacking, variant


def of(name: str, sha256: str) -> Variant:
    return variant(name).model_copy(update={"sha256": sha256})


def test_files_lie_below_the_run_s_folder_under_their_names(tmp_path: Path) -> None:
    found = located([of("fp32", "aa"), of("baseline:fp32", "bb"), lacking("never", "impossible")], tmp_path)
    variants = tmp_path / "variants"
    assert [each.path for each in found] == [variants / "fp32.onnx", variants / "baseline" / "fp32.onnx", None]


def test_equal_files_are_kept_once_under_one_of_their_names(tmp_path: Path) -> None:
    kept = tmp_path / "variants" / "second.onnx"
    kept.parent.mkdir()
    kept.write_bytes(b"model")
    first, second = located([of("first", "aa"), of("second", "aa")], tmp_path)
    assert (first.path, second.path) == (kept, kept)


def test_a_folder_can_move(tmp_path: Path) -> None:
    moved = located(located([of("fp32", "aa")], tmp_path / "old"), tmp_path / "new")
    assert [each.path for each in moved] == [tmp_path / "new" / "variants" / "fp32.onnx"]
