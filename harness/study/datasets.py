"""The sources of a study's data: a text, or a table that says how images or recordings become inputs, or how random data are drawn."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from harness import paths
from harness.study.toml_file import Section

# Each kind of data, and the keys that mean something to it.
KINDS: dict[str, tuple[str, ...]] = {
    "images": (
        *("samples", "labels", "input", "fixed", "size", "short_side", "resize", "interpolation"),
        *("channels", "layout", "scale", "mean", "std"),
    ),
    "audio": ("samples", "labels", "input", "fixed", "features", "rate", "channels"),
    "random": ("samples", "seed"),
    "arrays": (),
}
RANDOM = re.compile(r"random(:.*)?", re.DOTALL)
CALLABLE = re.compile(r"(?P<module>[\w.]+|.+\.py):(?P<name>\w+)")

Positive = Annotated[int, Field(ge=1)]
Numbers = float | list[float]


class DataTable(Section):
    """``calibration = { … }`` or ``evaluation = { … }``: exactly one of images, audio, random and arrays, with its keys.

    Attributes:
        images: an image or a folder of them, perhaps in sub-folders.
        audio: a recording (.wav, .flac, .ogg) or a folder of them, perhaps in sub-folders.
        random: a distribution for all inputs, or one for each input by name: ``uniform(low, high)``, ``normal(mean, std)``,
            ``integers(low, high)`` without ``high``, ``constant(value)``, ``zeros``, ``ones``.
        arrays: what the plain text would say: a numpy file, a folder of them, ``module:callable``.
        samples: at most so many files, spread evenly over all; of random data: how many.
        seed: of random data.
        labels: ``folders``: the names of the sub-folders, in order, are the classes; ``none``; or a file: .csv with rows ``file,class``,
            .npy with one class for each file in the order of their names. Without it, sub-folders are classes.
        input: which of several inputs the images or recordings are for.
        fixed: values of the other inputs, the same for every sample.
        size: height and width in pixels; without it, the model's.
        short_side: with ``resize = "crop"``, the shorter side is brought to this before the middle is cut out; without it, to ``size``.
        resize: ``stretch`` to the size, ``crop`` the middle, or ``pad`` with black.
        interpolation: of the resizing.
        channels: RGB, BGR or grey; of recordings how many there must be.
        layout: where the model wants the channels; without it, as its shape tells.
        scale: what values of 0..255 are multiplied by: 1/255 for floats, 1 for integers.
        mean: is subtracted after scaling, one number or one for each channel; then divided by ``std``.
        features: ``module:callable``, given the samples (float32, [frames] or [frames, channels]) and the rate.
        rate: in Hz, which every recording must have.
    """

    images: str | None = None
    audio: str | None = None
    random: str | dict[str, str] | None = None
    arrays: str | None = None
    samples: Positive | None = None
    seed: int | None = None
    labels: str | None = None
    input: str | None = None
    fixed: dict[str, Any] = {}
    size: Annotated[list[Positive], Field(min_length=2, max_length=2)] | None = None
    short_side: Positive | None = None
    resize: Literal["stretch", "crop", "pad"] = "stretch"
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    channels: Literal["RGB", "BGR", "grey"] | Positive | None = None
    layout: Literal["NCHW", "NHWC"] | None = None
    scale: float | None = None
    mean: Numbers | None = None
    std: Numbers | None = None
    features: str | None = None
    rate: Positive | None = None

    @property
    def kind(self) -> str:
        """Which of the kinds it is."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    def __str__(self) -> str:
        source = getattr(self, self.kind)
        return source if self.kind == "arrays" else f"{self.kind} {source}"

    @model_validator(mode="after")
    def _is_one_kind(self) -> DataTable:
        kinds = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(kinds) != 1:
            said = f"{' and '.join(kinds)} are given" if kinds else "none is given"
            message = f"data need exactly one of the keys {', '.join(KINDS)}; {said}"
            raise ValueError(message)
        known = KINDS[kinds[0]]
        # A run's record says every key, with its default.
        strange = [
            name
            for name, field in type(self).model_fields.items()
            if name not in {*known, *KINDS} and getattr(self, name) != field.get_default()
        ]
        if strange:
            message = f"'{strange[0]}' has no effect with {kinds[0]}; the keys for {kinds[0]} are: {', '.join(known) or 'none'}"
            raise ValueError(message)
        self._check_values()
        return self

    def _check_values(self) -> None:
        """Refuse what no image or recording can be.

        Raises:
            ValueError: if a value does not suit the kind.
        """
        if self.images is not None and isinstance(self.channels, int):
            message = "channels must be 'RGB', 'BGR' or 'grey' for images"
            raise ValueError(message)
        if self.audio is not None and isinstance(self.channels, str):
            message = "channels must be a number for recordings, such as 1"
            raise ValueError(message)
        if self.short_side is not None and self.resize != "crop":
            message = 'short_side needs resize = "crop"'
            raise ValueError(message)
        if 0.0 in (self.std if isinstance(self.std, list) else [self.std]):
            message = "std can't be 0, because the values are divided by it"
            raise ValueError(message)
        if self.features is not None and not CALLABLE.fullmatch(self.features):
            message = f"features must be 'module:callable', not {self.features!r}"
            raise ValueError(message)


def _tag(value: object) -> str:
    return "[table]" if isinstance(value, dict | DataTable) else "[text]"


DataSource = Annotated[
    Annotated[str, Tag("[text]")] | Annotated[DataTable, Tag("[table]")],
    Discriminator(_tag),
]


def absolute(source: str | DataTable, folder: Path) -> str | DataTable:
    """Resolve what is a path against a folder; random data stay, and a callable whose module does not lie there."""
    if isinstance(source, str):
        return _absolute(source, folder)
    keys = [key for key in ("images", "audio", "arrays", "features") if getattr(source, key) is not None]
    if source.labels not in {None, "folders", "none"}:
        keys.append("labels")
    return source.model_copy(update={key: _absolute(getattr(source, key), folder) for key in keys})


def _absolute(source: str, folder: Path) -> str:
    if RANDOM.fullmatch(source):
        return source
    if found := CALLABLE.fullmatch(source):
        module = found["module"] if found["module"].endswith(".py") else f"{found['module'].replace('.', '/')}.py"
        file = folder / paths.expanded(Path(module))
        return f"{file}:{found['name']}" if file.is_file() and "." not in found["module"].removesuffix(".py") else source
    return str(folder / paths.expanded(Path(source)))
