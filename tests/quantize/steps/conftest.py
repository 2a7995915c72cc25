"""What tests of preparation steps share: a model in a folder, built into variants, and how near they come to fp32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest

from harness.quantize.build import build
from harness.quantize.model.model import open_model
from harness.quantize.prepare import prepare
from harness.study import study as studies

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from onnx import ModelProto

    from harness.quantize.prepare import Prepared
    from harness.quantize.recipe import Variant

    Array = NDArray[Any]

STATIC = '[variants]\nmethods = ["static"]\nactivations = ["QUInt8"]\nweights = ["QInt8"]\n'


def run(model: Path | bytes, feed: dict[str, Array], *, optimized: bool = True) -> list[Array]:
    """Compute the outputs of a model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    found: list[Array] = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, feed)
    return found


def decibels(reference: list[Array], outputs: list[Array]) -> float:
    """The SQNR of the worst output, in dB."""
    found = []
    for wanted, given in zip(reference, outputs, strict=True):
        one, other = np.asarray(wanted, np.float64), np.asarray(given, np.float64)
        noise = float(np.sum((one - other) ** 2))
        found.append(10 * np.log10(float(np.sum(one**2)) / noise) if noise else np.inf)
    return float(min(found))


@dataclass
class Bench:
    """A model and data, in a folder.

    Attributes:
        folder: where everything goes.
    """

    folder: Path

    def save(self, model: ModelProto, **data: Array) -> None:
        """Write the model, and its calibration data: one sample along the first axis of each array."""
        onnx.save(model, self.folder / "m.onnx")
        np.savez(self.folder / "d.npz", allow_pickle=False, **data)

    def prepared(self) -> Prepared:
        """Prepare the model as for a recipe."""
        place = self.folder / "prepared"
        place.mkdir(exist_ok=True)
        return prepare(open_model(self.folder / "m.onnx"), place)

    def build(self, more: str = STATIC, dims: Mapping[str, list[int]] | None = None) -> dict[str, Variant]:
        """Make variants; open sizes of the model are said as in a study."""
        sizes = "".join(f"{name} = {values}\n" for name, values in (dims or {}).items())
        said = f"[model.dims]\n{sizes}" if sizes else ""
        text = f'name = "t"\n[model]\npath = "m.onnx"\ncalibration = "d.npz"\n{said}{more}'
        (self.folder / "study.toml").write_text(text, encoding="utf-8")
        return {each.name: each for each in build(studies.load(self.folder / "study.toml"), self.folder / "out")}

    def fidelity(self, variants: dict[str, Variant], samples: int = 4) -> dict[str, float]:
        """The SQNR of each variant's worst output over some samples, in dB; what was not made has none."""
        data = np.load(self.folder / "d.npz")
        shapes = {spec.name: spec.shape for spec in open_model(self.folder / "m.onnx").inputs}
        feeds = [
            {name: data[name][index].reshape(_fixed(shape, data[name][index].shape)) for name, shape in shapes.items()}
            for index in range(samples)
        ]
        reference = _joined(self.folder / "m.onnx", feeds)
        paths = {name: variant.path for name, variant in variants.items()}
        return {name: decibels(reference, _joined(path, feeds)) for name, path in paths.items() if path is not None}


def _joined(model: Path, feeds: list[dict[str, Array]]) -> list[Array]:
    """Each output over all feeds, as one array."""
    made = [run(model, feed) for feed in feeds]
    return [np.concatenate([outputs[index].ravel() for outputs in made]) for index in range(len(made[0]))]


def _fixed(shape: tuple[int | str, ...], own: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one sample: the model's, with open sizes as they are in the data, or 1."""
    missing = len(shape) - len(own)
    padded = (1,) * missing + own
    return tuple(size if isinstance(size, int) else padded[axis] for axis, size in enumerate(shape))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)
