from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from harness.errors import DataError
from harness.quantize.data import load as data
from harness.quantize.model.model import open_model
from harness.study.datasets import DataTable
from tests.models import make_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.quantize.data.load import Purpose, Samples
    from harness.quantize.model.model import SourceModel

    Make = Callable[..., SourceModel]

RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make a model of one image input x, and perhaps others."""

    def make(*shape: int | str, dtype: int = TensorProto.FLOAT, **others: list[int | str]) -> SourceModel:
        proto = make_model([helper.make_node("Identity", ["x"], ["y"])], {"x": shape}, {"y": shape})
        for value in (proto.graph.input[0], proto.graph.output[0]):
            value.type.tensor_type.elem_type = dtype
        for name, sizes in others.items():
            proto.graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT64, sizes))
        path = tmp_path / "model.onnx"
        onnx.save(proto, path)
        return open_model(path)

    return make


@pytest.fixture
def rgb(make: Make) -> SourceModel:
    return make("batch", 3, 4, 6)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five images of 6 × 4 in two classes: red ones are cats, blue ones are dogs."""
    for name, colour in (("cat/a", RED), ("cat/b", RED), ("dog/a", BLUE), ("dog/b", BLUE), ("dog/c", BLUE)):
        path = tmp_path / "photos" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4), colour).save(path)
    (tmp_path / "photos" / "cat" / ".hidden.png").write_bytes(b"left by a file manager")
    return tmp_path / "photos"


def load(model: SourceModel, photos: Path, batch: int = 1, what: Purpose = "evaluation", **keys: Any) -> Samples:
    return data.load(DataTable(images=str(photos), **keys), model, {"batch": batch}, what=what)


def pixel(samples: Samples, index: int = 0) -> list[float]:
    return [round(float(value), 4) for value in samples.feeds[index]["x"][0, :, 0, 0]]


def test_a_folder_with_classes(rgb: SourceModel, photos: Path) -> None:
    samples = load(rgb, photos)
    assert [feed["x"].shape for feed in samples.feeds] == [(1, 3, 4, 6)] * 5
    assert (pixel(samples), pixel(samples, -1)) == ([1, 0, 0], [0, 0, 1])
    assert samples.feeds[0]["x"].dtype == np.float32
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 0, 1, 1, 1]
    assert "scaled to 0..1; if the model was trained with others, set scale, mean and std" in samples.notes[0]


def test_plain_text_means_the_same(rgb: SourceModel, photos: Path) -> None:
    assert data.load(str(photos), rgb, {"batch": 1}, what="evaluation").digest == load(rgb, photos).digest
    one = data.load(str(photos / "dog" / "a.png"), rgb, {"batch": 1}, what="evaluation")
    assert (len(one.feeds), one.labels) == (1, None)


def test_batches_are_put_together(rgb: SourceModel, photos: Path) -> None:
    samples = load(rgb, photos, batch=2)
    assert [feed["x"].shape[0] for feed in samples.feeds] == [2, 2]
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 0, 1, 1]
    assert "the last 1 of 5 samples do not fill a batch of 2 and are left out" in samples.notes


def test_normalisation_is_per_channel(rgb: SourceModel, photos: Path) -> None:
    samples = load(rgb, photos, mean=[0.5, 0.25, 0.0], std=[0.5, 0.25, 2])
    assert (pixel(samples), samples.notes) == ([1, -1, 0], ())
    assert pixel(load(rgb, photos, scale=1)) == [255, 0, 0]
    assert pixel(load(rgb, photos, channels="BGR")) == [0, 0, 1]


def test_channels_last_and_bytes(make: Make, photos: Path) -> None:
    samples = load(make("batch", 4, 6, 3, dtype=TensorProto.UINT8), photos)
    assert samples.feeds[0]["x"].shape == (1, 4, 6, 3)
    assert samples.feeds[0]["x"].dtype == np.uint8
    assert samples.feeds[0]["x"][0, 0, 0].tolist() == [255, 0, 0]
    assert samples.notes == ()


def test_grey(make: Make, photos: Path) -> None:
    samples = load(make("batch", 1, 4, 6), photos, scale=1)
    assert pixel(samples) == [76]  # the luminance of red


def test_layout_that_the_shape_does_not_tell(make: Make, photos: Path) -> None:
    model = make("batch", 3, 5, 3)
    with pytest.raises(DataError, match='its shape does not tell where the channels are; set layout = "NCHW" or "NHWC"'):
        load(model, photos)
    assert load(model, photos, layout="NHWC").feeds[0]["x"].shape == (1, 3, 5, 3)


@pytest.mark.parametrize(
    ("keys", "columns"),
    [
        ({"resize": "stretch"}, "RRBB"),
        ({"resize": "crop"}, "RRBB"),
        ({"resize": "crop", "short_side": 8}, "RRBB"),
        ({"resize": "pad"}, "RRBB"),
    ],
)
def test_resizing(make: Make, tmp_path: Path, keys: dict[str, Any], columns: str) -> None:
    """An image twice as wide as high, red on the left and blue on the right."""
    image = Image.new("RGB", (8, 4), RED)
    image.paste(BLUE, (4, 0, 8, 4))
    image.save(tmp_path / "wide.png")
    samples = load(make("batch", 3, 4, 4), tmp_path / "wide.png", interpolation="nearest", **keys)
    row = samples.feeds[0]["x"][0, :, 2, :]
    assert "".join("R" if column[0] else "B" for column in row.T) == columns
    black = not samples.feeds[0]["x"][0, :, 0, :].any()
    assert black == (keys["resize"] == "pad")


def test_only_the_middle_is_cut_out(make: Make, tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 4), RED)
    image.paste(BLUE, (2, 0, 6, 4))
    image.save(tmp_path / "wide.png")
    samples = load(make("batch", 3, 4, 4), tmp_path / "wide.png", resize="crop")
    assert not samples.feeds[0]["x"][0, 0].any()


def test_images_are_upright(make: Make, tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 4), RED)
    image.paste(BLUE, (0, 0, 4, 2))
    exif = Image.Exif()
    exif[0x0112] = 3  # the camera was upside down
    image.save(tmp_path / "turned.png", exif=exif)
    assert pixel(load(make("batch", 3, 4, 4), tmp_path / "turned.png")) == [1, 0, 0]


def test_other_sizes_for_calibration_only(make: Make, photos: Path) -> None:
    model = make("batch", 3, "h", "w")
    dims = {"batch": 1, "h": 4, "w": 6}
    table = DataTable(images=str(photos), size=[2, 3])
    assert data.load(table, model, dims, what="calibration").feeds[0]["x"].shape == (1, 3, 2, 3)
    with pytest.raises(DataError, match=r"takes images of 4 × 6 \(height × width\), and size is \[2, 3\]"):
        data.load(table, model, dims, what="evaluation")


def test_some_of_many_are_spread(rgb: SourceModel, photos: Path) -> None:
    samples = load(rgb, photos, samples=2)
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 1]


def test_other_inputs_are_fixed(make: Make, photos: Path) -> None:
    model = make("batch", 3, 4, 6, size=["batch", 2])
    samples = load(model, photos, batch=2, fixed={"size": [4, 6]})
    assert samples.feeds[0]["size"].tolist() == [[4, 6], [4, 6]]
    assert samples.feeds[0]["size"].dtype == np.int64
    for fixed, said in (
        ({}, r"input 'size' is left without a value; give it in fixed, such as fixed = { size = 0 }"),
        ({"size": 1, "sice": 2}, "fixed has 'sice'; did you mean 'size'?"),
        ({"size": [1, 2, 3]}, "fixed 'size' = .* does not fit"),
        ({"size": 1.5}, "a whole number is wanted"),
        ({"size": "big"}, "does not fit"),
    ):
        with pytest.raises(DataError, match=said):
            load(model, photos, fixed=fixed)


class TestLabels:
    def test_none_are_wanted(self, rgb: SourceModel, photos: Path) -> None:
        assert load(rgb, photos, labels="none").labels is None
        assert load(rgb, photos, what="calibration", labels="nowhere.csv").labels is None

    def test_a_table(self, rgb: SourceModel, photos: Path, tmp_path: Path) -> None:
        table = tmp_path / "labels.csv"
        table.write_text("file,class\ndog/c.png, 7\ncat/a.png,1\ncat/b.png,2\ndog/a.png,3\ndog/b.png,4\n", encoding="utf-8")
        samples = load(rgb, photos, labels=str(table))
        assert samples.labels is not None
        assert samples.labels.tolist() == [1, 2, 3, 4, 7]

    def test_an_array(self, rgb: SourceModel, photos: Path, tmp_path: Path) -> None:
        np.save(tmp_path / "labels.npy", np.array([5, 4, 3, 2, 1], np.uint8))
        samples = load(rgb, photos, labels=str(tmp_path / "labels.npy"))
        assert samples.labels is not None
        assert samples.labels.tolist() == [5, 4, 3, 2, 1]

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("cat/a.png,1\n", "has no row for cat/b.png; did you mean 'cat/a.png'?"),
            ("cat/a.png,1\ncat/b.png,cat\n", "labels.csv, row 2: write 'file,class' with a whole number for the class"),
            ("cat/a.png\n", "row 1: write 'file,class'"),
            ("", "it is empty"),
        ],
    )
    def test_tables_that_do_not_fit(self, rgb: SourceModel, photos: Path, tmp_path: Path, text: str, said: str) -> None:
        (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=said):
            load(rgb, photos, labels=str(tmp_path / "labels.csv"))

    def test_other_faults(self, rgb: SourceModel, photos: Path, tmp_path: Path) -> None:
        np.save(tmp_path / "few.npy", np.array([1, 2]))
        (tmp_path / "bad.npy").write_bytes(b"\x80pickle")
        Image.new("RGB", (6, 4)).save(photos / "stray.png")
        for labels, said in (
            (str(tmp_path / "few.npy"), "labels are one whole number for each of the 6 files"),
            (str(tmp_path / "bad.npy"), "labels can't be read: no plain .npy file"),
            (str(tmp_path / "none.csv"), "labels can't be read: No such file or directory"),
            ("folders", "stray.png: lies in no sub-folder"),
        ):
            with pytest.raises(DataError, match=said):
                load(rgb, photos, labels=labels)
        assert load(rgb, photos).labels is None


class TestFaults:
    @pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
    def test_damaged(self, rgb: SourceModel, photos: Path, content: bytes) -> None:
        (photos / "cat" / "bad.png").write_bytes(content)
        with pytest.raises(
            DataError, match=r"cat/bad\.png: damaged, or not an image: .*; remove it from the folder, or replace it"
        ):
            load(rgb, photos)

    def test_cut_short(self, rgb: SourceModel, tmp_path: Path) -> None:
        path = tmp_path / "photo.png"
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[:4000])
        with pytest.raises(DataError, match=r"photo\.png: damaged"):
            load(rgb, path)

    def test_sixteen_bits(self, rgb: SourceModel, tmp_path: Path) -> None:
        Image.fromarray(np.full((4, 6), 40000, np.uint16)).save(tmp_path / "deep.png")
        with pytest.raises(DataError, match=r"deep\.png: has more than 8 bits for a channel"):
            load(rgb, tmp_path / "deep.png")

    def test_missing_and_empty(self, rgb: SourceModel, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="none: no such file or folder"):
            load(rgb, tmp_path / "none")
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataError, match=r"empty: the folder holds no image \(\.jpg, "):
            load(rgb, tmp_path / "empty")
        with pytest.raises(DataError, match=r"holds no \.npz or \.npy file, image or recording"):
            data.load(str(tmp_path / "empty"), rgb, {"batch": 1}, what="calibration")

    def test_too_few_for_a_batch(self, rgb: SourceModel, photos: Path) -> None:
        with pytest.raises(DataError, match=r"5 images, not enough for one run; model.onnx wants float32 \[8, 3, 4, 6\]"):
            load(rgb, photos, batch=8)

    @pytest.mark.parametrize(
        ("shape", "keys", "said"),
        [
            ((1, 3, 4, 6), {"channels": "grey"}, "takes 3 channels as NCHW, and grey images have 1"),
            ((1, 1, 4, 6), {"channels": "RGB"}, "takes 1 channels as NCHW, and RGB images have 3"),
            ((1, 4, 8, 8), {"layout": "NCHW"}, "takes 4 channels as NCHW, and images have 1 or 3"),
            ((1, 3, 4, 6), {"mean": [0.5, 0.5]}, "mean has 2 numbers for 3 channels"),
            ((1, 3, 4, 6), {"resize": "crop", "short_side": 5}, "short_side = 5 is smaller than the size"),
            ((1, 3, 4, 6), {"input": "y"}, "the model has no input 'y'; known: x"),
            ((1, 24), {}, "images are for an input with 4 axes, and model.onnx has x float32"),
        ],
    )
    def test_what_does_not_suit_the_model(
        self, make: Make, photos: Path, shape: tuple[int, ...], keys: dict[str, Any], said: str
    ) -> None:
        with pytest.raises(DataError, match=said):
            data.load(DataTable(images=str(photos), **keys), make(*shape), {}, what="evaluation")

    def test_which_of_two(self, make: Make, photos: Path) -> None:
        model = make("batch", 3, 4, 6, z=[1, 3, 4, 6])
        with pytest.raises(DataError, match="which input are the images for"):
            load(model, photos)
        assert set(load(model, photos, input="x", fixed={"z": 0}).feeds[0]) == {"x", "z"}

    def test_values_beyond_the_type(self, make: Make, photos: Path) -> None:
        with pytest.raises(DataError, match=r"values of -127 to 128 do not fit in uint8; set scale, mean and std"):
            load(make("batch", 3, 4, 6, dtype=TensorProto.UINT8), photos, mean=127)
