"""Images as a model's input: opened with Pillow, brought to size, scaled, normalised and laid out."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from harness.errors import DataError
from harness.quantize.data.feeds import Batches
from harness.quantize.data.input_binding import chosen_input, fixed_values
from harness.quantize.data.labels import classes_of, find_files, spread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.quantize.data.fit import Fit
    from harness.quantize.data.sources import Array, Feed
    from harness.quantize.model.model import TensorSpec
    from harness.study.datasets import DataTable

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
AXES = 4
BYTE = 255
COLOURS = {1: "grey", 3: "RGB"}
# Of Pillow: more than 8 bits for a channel, which conversion would cut off at 255.
DEEP = ("I", "F")


@dataclass(frozen=True)
class Look:
    """How an image becomes an array.

    Attributes:
        size: height and width in pixels.
        channels: RGB, BGR or grey.
        last: channels are the last axis, not the first.
        scale: multiplies values of 0..255; then mean is subtracted, and the result divided by std, each [channels].
        dtype: of the array.
    """

    size: tuple[int, int]
    channels: str
    last: bool
    scale: float
    mean: Array
    std: Array
    dtype: str
    resize: str
    short_side: int | None
    interpolation: Image.Resampling

    def array(self, path: Path) -> Array:
        """Read one image: [channels, height, width], or [height, width, channels].

        Raises:
            DataError: if it is damaged, or its values do not suit the input's type.
        """
        image = self._resized(_opened(path, "L" if self.channels == "grey" else "RGB"))
        pixels = np.asarray(image, np.float32)
        pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels  # noqa: PLR2004 - grey has no axis of channels
        if self.channels == "BGR":
            pixels = pixels[:, :, ::-1]
        values = (pixels * np.float32(self.scale) - self.mean) / self.std
        values = values if self.last else values.transpose(2, 0, 1)
        kind = np.dtype(self.dtype)
        if kind.kind in "iu":
            values = values.round()
            ends = np.iinfo(kind)
            if values.min() < ends.min or values.max() > ends.max:
                message = f"{path}: values of {values.min():g} to {values.max():g} do not fit in {kind}; set scale, mean and std"
                raise DataError(message)
        return np.ascontiguousarray(values.astype(kind))

    def _resized(self, image: Image.Image) -> Image.Image:
        height, width = self.size
        if self.resize == "pad":
            return ImageOps.pad(image, (width, height), self.interpolation)
        if self.resize == "stretch":
            return image.resize((width, height), self.interpolation)
        if self.short_side is None:
            return ImageOps.fit(image, (width, height), self.interpolation)
        ratio = self.short_side / min(image.size)
        image = image.resize((max(1, round(image.width * ratio)), max(1, round(image.height * ratio))), self.interpolation)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        return image.crop((left, top, left + width, top + height))


def open_images(fit: Fit, table: DataTable) -> tuple[Batches, tuple[str, ...]]:
    """Prepare reading a folder of images, or one.

    Args:
        fit: the model's side.
        table: of the kind ``images``.

    Returns:
        The images, put together into batches on each pass; and notes on what was taken for granted.

    Raises:
        DataError: if there are none, or the table does not suit the model.
    """
    folder = Path(str(table.images))
    spec = chosen_input(fit, table.input, str(folder), AXES, "images")
    look, notes = _look(fit, spec, table)
    files = find_files(folder, SUFFIXES, "image")
    classes = classes_of(files, folder, table.labels) if fit.wants_labels else None
    chosen = spread(len(files), table.samples)
    fixed = fixed_values(fit, table.fixed, [spec.name], str(folder))

    def rows() -> Iterator[tuple[Feed, int | None]]:
        for index in chosen:
            yield {spec.name: look.array(files[index])}, None if classes is None else classes[index]

    batch = fit.shapes[spec.name][0]
    if len(chosen) < batch:
        message = f"{folder}: {len(chosen)} images, not enough for one run; {fit.wants(spec)}"
        raise DataError(message)
    return Batches(batch, rows, fixed), notes


def _look(fit: Fit, spec: TensorSpec, table: DataTable) -> tuple[Look, tuple[str, ...]]:
    """Fill in what the table leaves to the model.

    Raises:
        DataError: if the two do not agree.
    """
    shape = fit.shapes[spec.name]
    place = f"{table.images}: input {spec}"
    last = _channels_last(place, shape, table)
    count = shape[3 if last else 1]
    channels = str(table.channels or COLOURS.get(count))
    if count != (1 if channels == "grey" else 3):
        wanted = (
            f"{channels} images have {1 if channels == 'grey' else 3}"
            if channels in {"RGB", "BGR", "grey"}
            else "images have 1 or 3"
        )
        message = (
            f"{place} takes {count} channels as {'NHWC' if last else 'NCHW'}, and {wanted}; set channels or layout, or make the "
            "inputs with a callable: module:callable"
        )
        raise DataError(message)
    own = (shape[1], shape[2]) if last else (shape[2], shape[3])
    size = (table.size[0], table.size[1]) if table.size else own
    whole = (shape[0], *size, count) if last else (shape[0], count, *size)
    if not fit.fits(spec, whole):
        message = f"{place} takes images of {own[0]} × {own[1]} (height × width), and size is {list(size)}"
        raise DataError(message)
    if table.short_side is not None and table.short_side < max(size):
        message = f"{place}: short_side = {table.short_side} is smaller than the size {list(size)} that is cut out"
        raise DataError(message)
    floats = np.dtype(spec.dtype).kind == "f"
    scale = table.scale if table.scale is not None else 1 / BYTE if floats else 1.0
    note: tuple[str, ...] = ()
    if floats and table.mean is None and table.std is None and table.scale is None:
        note = (
            f"{table.images}: images are fed as {channels} scaled to 0..1; if the model was trained with others, set scale, mean and std",
        )
    look = Look(
        size=size,
        channels=channels,
        last=last,
        scale=scale,
        mean=_per_channel(place, "mean", table.mean, 0.0, count),
        std=_per_channel(place, "std", table.std, 1.0, count),
        dtype=spec.dtype,
        resize=table.resize,
        short_side=table.short_side,
        interpolation=Image.Resampling[table.interpolation.upper()],
    )
    return look, note


def _channels_last(place: str, shape: tuple[int, ...], table: DataTable) -> bool:
    if table.layout is not None:
        return table.layout == "NHWC"
    found = [axis for axis in (1, 3) if shape[axis] in COLOURS]
    if len(found) == 1:
        return found == [3]
    message = f'{place}: its shape does not tell where the channels are; set layout = "NCHW" or "NHWC", or use a callable'
    raise DataError(message)


def _per_channel(place: str, key: str, value: float | list[float] | None, default: float, count: int) -> Array:
    numbers = default if value is None else value
    if isinstance(numbers, list) and len(numbers) != count:
        message = f"{place}: {key} has {len(numbers)} numbers for {count} channels"
        raise DataError(message)
    return np.asarray(numbers, np.float32)


def _opened(path: Path, mode: str) -> Image.Image:
    """Open an image upright, with 8 bits for each channel.

    Raises:
        DataError: if it is damaged, or has more.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata that nobody asked for
            with Image.open(path) as image:
                deep = image.mode.split(";")[0] in DEEP
                upright = image if deep else ImageOps.exif_transpose(image).convert(mode)
                upright.load()
                found = image.mode
    except Exception as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else f"damaged, or not an image: {exc}"
        message = f"{path}: {reason}; remove it from the folder, or replace it"
        raise DataError(message) from exc
    if deep:
        message = f"{path}: has more than 8 bits for a channel (mode {found}); convert it, or give arrays in an .npz"
        raise DataError(message)
    return upright
