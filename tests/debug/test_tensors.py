from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import qdq_loss_debug

from harness.debug import tensors, weights
from harness.debug.tensors import TensorLoss
from harness.quantize import build
from harness.quantize.recipe import Variant
from harness.study import study as studies
from tests.models import images, tiny_cnn, tiny_mlp

FEEDS = [{"x": image[None]} for image in images(5)]


def made(folder: Path, more: str) -> Variant:
    """A static variant of tiny_cnn."""
    tiny_cnn(folder / "model.onnx")
    np.savez(folder / "data.npz", x=images(5))
    text = 'name = "t"\n[model]\npath = "model.onnx"\ndims = { batch = 1 }\ncalibration = "data.npz"\n[variants]\nmethods = []\n'
    (folder / "study.toml").write_text(f'{text}[[variant]]\nname = "v"\nmethod = "static"\n{more}')
    found = build.build(studies.load(folder / "study.toml"), folder / "out")[-1]
    assert found.path is not None
    return found


def ranked(folder: Path, variant: Variant) -> dict[str, TensorLoss]:
    assert variant.path is not None
    found, _ = tensors.rank(folder / "model.onnx", variant.path, FEEDS, folder, qdq=variant.recipe.format == "QDQ")
    assert [loss.sqnr_db for loss in found] == sorted(loss.sqnr_db for loss in found)
    return {loss.name: loss for loss in found}


def test_qdq_is_as_qdq_loss_debug_has_it(tmp_path: Path) -> None:
    variant = made(tmp_path, 'format = "QDQ"\n')
    found = ranked(tmp_path, variant)
    opened = [str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx")]
    collected = []
    for source, target in zip((tmp_path / "model.onnx", variant.path), opened, strict=True):
        qdq_loss_debug.modify_model_output_intermediate_tensors(source, target)
        collected.append(qdq_loss_debug.collect_activations(target, FEEDS))
    errors = qdq_loss_debug.compute_activation_error(qdq_loss_debug.create_activation_matching(collected[1], collected[0]))
    assert set(errors) <= set(found)
    for name, error in errors.items():
        assert found[name].sqnr_db == pytest.approx(error["xmodel_err"], abs=1e-3)
    # Of r1 the library holds values from before the Relu, which is gone, against those after it.
    assert found["c2"].own_db == pytest.approx(errors["c2"]["qdq_err"], abs=1e-3)
    assert (found["r1"].own_db or 0) > errors["r1"]["qdq_err"] + 10
    assert found["r1"].op_type == "Relu"


def test_how_many_feeds_are_held_at_a_time_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variant = made(tmp_path, 'format = "QDQ"\n')
    whole = ranked(tmp_path, variant)
    monkeypatch.setattr(tensors, "CHUNK_BYTES", 1)
    assert ranked(tmp_path, variant) == whole


def test_qoperator_is_dequantized_and_held_against_what_its_integers_mean(tmp_path: Path) -> None:
    found = ranked(tmp_path, made(tmp_path, 'format = "QOperator"\n'))
    # The Relu is gone: the integers of conv1 are those of r1, clamped by their range.
    assert "c1" not in found
    assert {"r1", "c2", "a", "y"} <= set(found)
    assert all(loss.sqnr_db > 20 for loss in found.values())


def test_both_formats_find_the_same_of_the_same_numbers(tmp_path: Path) -> None:
    (tmp_path / "q").mkdir()
    (tmp_path / "o").mkdir()
    qdq, qoperator = (
        ranked(tmp_path / at, made(tmp_path / at, f'format = "{kind}"\n')) for at, kind in (("q", "QDQ"), ("o", "QOperator"))
    )
    for name in ("r1", "c2", "y"):
        assert qoperator[name].sqnr_db == pytest.approx(qdq[name].sqnr_db, abs=3)


def test_a_relu_that_was_deleted_is_put_back_in_a_format_that_qdq_loss_debug_does_not_see(tmp_path: Path) -> None:
    found = ranked(tmp_path, made(tmp_path, 'format = "QDQ"\nweight = "QInt4"\n'))
    # Without its clamp r1 would be half negative: 0 dB.
    assert found["r1"].sqnr_db > 10


def test_what_is_lost_is_told_from_what_was_lost_before(tmp_path: Path) -> None:
    found = ranked(tmp_path, made(tmp_path, 'format = "QDQ"\n'))
    loss = found["a"]
    worst = min(found[name].sqnr_db for name in ("c2", "r1"))
    assert loss.lost_db == pytest.approx(worst - loss.sqnr_db)


@pytest.mark.parametrize("kind", ["QInt8", "QUInt8"])
@pytest.mark.parametrize("per_channel", ["true", "false"])
@pytest.mark.parametrize("file_format", ["QDQ", "QOperator"])
def test_weights_are_dequantized_without_wrapping_around(tmp_path: Path, kind: str, per_channel: str, file_format: str) -> None:
    variant = made(tmp_path, f'format = "{file_format}"\nweight = "{kind}"\nper_channel = {per_channel}\n')
    assert variant.path is not None
    found = {loss.name: loss for loss in weights.rank(onnx.load(tmp_path / "model.onnx"), onnx.load(variant.path))}
    assert {"w1", "w2", "w3"} <= set(found)
    assert all(loss.sqnr_db > 30 for loss in found.values())
    assert all((found[name].worst_db or 0) <= found[name].sqnr_db for name in ("w1", "w2", "w3"))
    assert (found["w1"].node, found["w3"].op_type) == ("conv1", "Gemm")
    if file_format == "QDQ":
        matched = qdq_loss_debug.create_weight_matching(str(tmp_path / "model.onnx"), str(variant.path))
        theirs = qdq_loss_debug.compute_weight_error(matched)
        if kind == "QInt8":
            assert {name: found[name].sqnr_db for name in theirs} == pytest.approx(theirs, abs=1e-3)
        elif per_channel == "false":
            # The reason why the library's own is not used: uint8 minus uint8 wraps around.
            assert theirs["w1"] < 0


def test_dynamic_weights_and_tensors(tmp_path: Path) -> None:
    tiny_mlp(tmp_path / "model.onnx", batch=1)
    (tmp_path / "study.toml").write_text(
        'name = "t"\n[model]\npath = "model.onnx"\n[variants]\nmethods = ["dynamic"]\nweights = ["QUInt8"]\n'
    )
    variant = build.build(studies.load(tmp_path / "study.toml"), tmp_path / "out")[-1]
    assert variant.path is not None
    feeds = [{"x": np.random.default_rng(n).standard_normal((1, 16)).astype(np.float32)} for n in range(3)]
    found, _ = tensors.rank(tmp_path / "model.onnx", variant.path, feeds, tmp_path, qdq=False)
    assert {"s", "r", "y"} <= {loss.name for loss in found}
    assert {loss.name for loss in weights.rank(onnx.load(tmp_path / "model.onnx"), onnx.load(variant.path))} == {"w1", "w2"}
