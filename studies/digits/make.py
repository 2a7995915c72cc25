"""Train the model of the digits study and write its files next to this script.

Writes ``model.onnx`` (a small residual network), ``calibration.npz`` (training images) and
``evaluation.npz`` (held-out images with labels).  Everything is seeded; the figures still differ
slightly between processors, because floating-point sums are ordered differently.

    pip install torch scikit-learn onnx onnxruntime
    python studies/digits/make.py
"""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional

HERE = Path(__file__).resolve().parent
SEED = 20
SIDE = 64  # pixels: height and width of an up-scaled image
GREY_STEPS = 64  # pixel values are multiples of 1/64: smooth floats would hardly compress
HELD_OUT = 360
CALIBRATION = 128
EPOCHS = 30
BATCH = 64
PEAK_RATE = 3e-3
MAX_SHIFT = 5  # pixels, in each direction
MAX_NOISE = 0.08  # standard deviation of the pixel noise
OPSET = 17
MAX_IR_VERSION = 10
MIN_ACCURACY = 0.97
MAX_BYTES = 4_500_000  # model and both data files together

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class Residual(nn.Module):
    """Two 3x3 convolutions with a shortcut: [n,inside,h,w] -> [n,outside,h/stride,w/stride]."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
            nn.Conv2d(outside, outside, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inside, outside, 1, stride, bias=False),
                nn.BatchNorm2d(outside),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to float32 [n,inside,h,w]."""
        return functional.relu(self.body(x) + self.shortcut(x))


def build_network() -> nn.Sequential:
    """Return the untrained network: float32 [n,1,64,64] -> float32 [n,10] (logits)."""
    return nn.Sequential(
        nn.Conv2d(1, 64, 3, 2, 1, bias=False),  # 64x64 -> 32x32
        nn.BatchNorm2d(64),
        nn.ReLU(),
        Residual(64, 64, 1),
        Residual(64, 64, 1),
        Residual(64, 64, 2),  # -> 16x16
        Residual(64, 64, 1),
        Residual(64, 96, 2),  # -> 8x8
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(96, 10),
    )


def load_images() -> tuple[Floats, Labels]:
    """Return all images, float32 [1797,1,64,64] in 0..1, and their labels, int64 [1797]."""
    digits = load_digits()
    small = torch.tensor(digits.images / 16.0, dtype=torch.float32).unsqueeze(1)
    large = functional.interpolate(small, (SIDE, SIDE), mode="bilinear", align_corners=False)
    coarse = (large * GREY_STEPS).round() / GREY_STEPS
    return coarse.numpy(), digits.target.astype(np.int64)


def augment(images: Tensor, rng: torch.Generator) -> Tensor:
    """Shift each image by a few pixels and add noise: float32 [n,1,64,64] -> the same shape."""
    padded = functional.pad(images, (MAX_SHIFT,) * 4)
    offsets = torch.randint(0, 2 * MAX_SHIFT + 1, (len(images), 2), generator=rng).tolist()
    shifted = torch.stack(
        [image[:, top : top + SIDE, left : left + SIDE] for image, (top, left) in zip(padded, offsets, strict=True)]
    )
    strength = MAX_NOISE * torch.rand((len(images), 1, 1, 1), generator=rng)
    return shifted + strength * torch.randn(shifted.shape, generator=rng)


def train(images: Floats, labels: Labels) -> nn.Sequential:
    """Train a network on float32 [n,1,64,64] and int64 [n]; return it in evaluation mode.

    The schedule is fixed: no held-out image takes part in it, nor in any choice of weights.
    """
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(mode=True)
    rng = torch.Generator().manual_seed(SEED)
    network = build_network()
    network.to(memory_format=torch.channels_last)  # in place; faster on a CPU
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    steps = len(x) // BATCH
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, EPOCHS * steps)
    network.train()
    for _ in range(EPOCHS):
        order = torch.randperm(len(x), generator=rng)
        for chosen in order[: steps * BATCH].split(BATCH):
            batch = augment(x[chosen], rng).to(memory_format=torch.channels_last)
            loss = functional.cross_entropy(network(batch), y[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.to(memory_format=torch.contiguous_format)
    return network.eval()


def strip(model: onnx.ModelProto) -> None:
    """Remove doc strings and metadata (traces with paths), and initializers nothing reads."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.value_info):
        part.doc_string = ""
        del part.metadata_props[:]
    for value in (*graph.input, *graph.output):
        value.doc_string = ""
        del value.metadata_props[:]
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def require(message: str, *, holds: bool) -> None:
    """Fail with the message unless the condition holds."""
    if not holds:
        raise RuntimeError(message)


def shape_of(value: onnx.ValueInfoProto) -> list[str | int]:
    """Return the declared shape, with the names of symbolic dimensions."""
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def export(network: nn.Module, path: Path) -> onnx.ModelProto:
    """Write the network as one ONNX file, input [batch,1,64,64] and output [batch,10], float32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the exporter used here
        torch.onnx.export(
            network,
            (torch.zeros(2, 1, SIDE, SIDE),),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        )
    model = onnx.load(path)
    strip(model)
    onnx.checker.check_model(model, full_check=True)
    taken, given = shape_of(model.graph.input[0]), shape_of(model.graph.output[0])
    require(f"unexpected input shape {taken}", holds=taken == ["batch", 1, SIDE, SIDE])
    require(f"unexpected output shape {given}", holds=given == ["batch", 10])
    require(f"IR version {model.ir_version} is too new", holds=model.ir_version <= MAX_IR_VERSION)
    onnx.save(model, path)
    return model


def measure_accuracy(model: Path, evaluation: Path) -> float:
    """Return the share of the evaluation images that the exported model classifies rightly."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    with np.load(evaluation, allow_pickle=False) as data:
        images, labels = data["image"], data["labels"]
    (logits,) = session.run(["logits"], {"image": images})
    return float(np.mean(np.argmax(logits, axis=1) == labels))


def main() -> None:
    """Make the three files, and fail unless the exported model is accurate and they are small."""
    images, labels = load_images()
    train_x, test_x, train_y, test_y = train_test_split(images, labels, test_size=HELD_OUT, stratify=labels, random_state=SEED)
    calibration_x, _ = train_test_split(train_x, train_size=CALIBRATION, stratify=train_y, random_state=SEED)
    calibration, evaluation = HERE / "calibration.npz", HERE / "evaluation.npz"
    np.savez_compressed(calibration, image=calibration_x)
    np.savez_compressed(evaluation, image=test_x, labels=test_y)

    began = time.perf_counter()
    network = train(train_x, train_y)
    seconds = time.perf_counter() - began
    path = HERE / "model.onnx"
    model = export(network, path)

    accuracy = measure_accuracy(path, evaluation)
    require(f"accuracy {accuracy:.2%} is too low", holds=accuracy >= MIN_ACCURACY)
    sizes = {file.name: file.stat().st_size for file in (path, calibration, evaluation)}
    require(f"the files are too large: {sizes}", holds=sum(sizes.values()) <= MAX_BYTES)
    parameters = sum(tensor.numel() for tensor in network.parameters())
    sys.stdout.write(
        f"{parameters} parameters, trained on {len(train_x)} images in {seconds:.0f} s\n"
        f"opset {model.opset_import[0].version}, IR version {model.ir_version}\n"
        f"accuracy on {len(test_x)} held-out images: {accuracy:.2%}\n"
        + "".join(f"{name}: {size} bytes\n" for name, size in sizes.items())
    )


if __name__ == "__main__":
    main()
