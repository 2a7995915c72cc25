"""Speech and sound: VITS tails, flows, recurrent layers, CTC heads, spectra inside the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from families import forms
from families.layers import act, conv, linear
from families.registry import pattern

if TYPE_CHECKING:
    from families.net import Net

STEPS, WIDTH = 12, 8


@pattern(random=True, kind=("RandomNormalLike", "RandomUniformLike"), scaled=(False, True))
def noisy_tail(net: Net, kind: str, scaled: bool) -> None:
    """VITS: mean and log deviation, and noise drawn inside the graph."""
    x = net.input("x", [1, WIDTH, STEPS])
    both = conv(net, x, WIDTH, 2 * WIDTH, 1, axes=1)
    mean, log = forms.split(net, both, [WIDTH, WIDTH], 1)
    noise = net.op("Mul", net.op(kind, mean), net.op("Exp", log))
    noise = net.op("Mul", noise, net.const(0.667)) if scaled else noise
    net.output(conv(net, net.op("Add", mean, noise), WIDTH, 1, 3, axes=1))


@pattern(layers=(1, 3), inverse=(False, True))
def flow(net: Net, layers: int, inverse: bool) -> None:
    """Coupling layers: half of the channels shift and scale the others, then all are flipped."""
    x = net.input("z", [1, WIDTH, STEPS])
    half = WIDTH // 2
    for _ in range(layers):
        left, right = forms.split(net, x, [half, half], 1)
        both = conv(net, net.op("Tanh", conv(net, left, half, 16, 3, axes=1)), 16, WIDTH, 1, axes=1)
        shift, log = forms.split(net, both, [half, half], 1)
        if inverse:
            right = net.op("Mul", net.op("Sub", right, shift), net.op("Exp", net.op("Neg", log)))
        else:
            right = net.op("Add", net.op("Mul", right, net.op("Exp", log)), shift)
        x = net.op("Concat", left, right, axis=1)
        x = forms.cut(net, x, 1, -1, -(2**62), -1)
    net.output(x)


@pattern(activation=("leaky", "snake"), rate=(2, 4))
def vocoder(net: Net, activation: str, rate: int) -> None:
    """HiFi-GAN: transposed convolution, dilated residual blocks, Tanh."""
    x = net.input("mel", [1, WIDTH, STEPS])
    size = 2 * rate
    x = net.op(
        "ConvTranspose", x, net.weight(WIDTH, 4, size, fan_in=2 * WIDTH), net.bias(4), strides=[rate], pads=[rate // 2] * 2
    )
    for dilation in (1, 3):
        y = x
        if activation == "leaky":
            y = net.op("LeakyRelu", y, alpha=0.1)
        else:
            sine = net.op("Sin", y)
            y = net.op("Add", y, net.op("Mul", sine, sine))
        x = net.op("Add", x, conv(net, y, 4, 4, 3, axes=1, dilations=[dilation]))
    net.output(net.op("Tanh", conv(net, x, 4, 1, 7, axes=1)))


@pattern(kind=("LSTM", "GRU", "RNN"), direction=("forward", "bidirectional", "reverse"), state=(False, True), opset=(14,))
def recurrent(net: Net, kind: str, direction: str, state: bool) -> None:
    """A recurrent layer with a linear one behind it; its states perhaps inputs and outputs."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    ways, hidden = 1 + (direction == "bidirectional"), 6
    x = net.op("Transpose", net.input("x", [1, STEPS, WIDTH]), perm=[1, 0, 2])
    constants = [net.weight(ways, gates * hidden, WIDTH, fan_in=WIDTH), net.weight(ways, gates * hidden, hidden, fan_in=hidden)]
    constants.append(net.const(0.2 * net.rng.normal(size=(ways, 2 * gates * hidden))))
    states = [net.input(name, [ways, 1, hidden]) for name in ("h0", "c0")[: 1 + (kind == "LSTM")]] if state else []
    more: dict[str, Any] = {"linear_before_reset": 1} if kind == "GRU" else {}
    rest = ["", *states] if states else []
    y, *last = net.ops(
        kind, x, *constants, *rest, into=3 if kind == "LSTM" else 2, hidden_size=hidden, direction=direction, **more
    )
    y = net.op("Transpose", y, perm=[2, 0, 1, 3]) if ways > 1 else net.op("Transpose", forms.squeeze(net, y, 1), perm=[1, 0, 2])
    y = forms.reshape(net, net.op("Transpose", y, perm=[0, 1, 2, 3]), 1, STEPS, ways * hidden) if ways > 1 else y
    net.output(linear(net, y, ways * hidden, 5), *(last if state else []))


@pattern(end=("softmax", "log-softmax", "logits"), body=("conv", "transformer"))
def ctc(net: Net, end: str, body: str) -> None:
    """Text recognition: columns of an image become steps, each with classes."""
    x = act(net, conv(net, net.input("image", [1, 1, 8, 24], "image"), 1, WIDTH, strides=[2, 1], pads=[1] * 4), "hardswish")
    x = net.op("MaxPool", x, kernel_shape=[4, 2], strides=[4, 2])
    x = net.op("Transpose", forms.squeeze(net, x, 2), perm=[0, 2, 1])
    if body == "transformer":
        scores = net.op("Softmax", net.op("MatMul", linear(net, x, WIDTH, WIDTH), net.op("Transpose", x, perm=[0, 2, 1])), axis=2)
        x = forms.layer_norm(net, net.op("Add", x, net.op("MatMul", scores, x)), WIDTH)
    logits = linear(net, x, WIDTH, 20, gain=2)
    net.output(
        {"softmax": net.op("Softmax", logits, axis=2), "log-softmax": net.op("LogSoftmax", logits, axis=2), "logits": logits}[end]
    )


@pattern(log=("clip", "add", "max"), basis=("conv", "stft"))
def spectrum(net: Net, log: str, basis: str) -> None:
    """A logarithmic spectrum computed in the graph, as front ends of speech models do."""
    size, bins = 16, 9
    wave = net.input("audio", [1, 128], 0.1 * net.rng.normal(size=(16, 1, 128)))
    angles = 2 * np.pi * np.arange(bins)[:, None] * np.arange(size) / size
    if basis == "conv":
        kernel = np.concatenate([np.cos(angles), -np.sin(angles)])[:, None] * np.hanning(size)
        both = net.op("Conv", forms.unsqueeze(net, wave, 1), net.const(kernel), strides=[8])
        real, imaginary = forms.split(net, both, [bins, bins], 1)
    else:
        found = net.op("STFT", wave, net.const(8, np.int64), net.const(np.hanning(size)), net.const(size, np.int64))
        real, imaginary = (
            net.op("Transpose", forms.squeeze(net, forms.cut(net, found, 3, at, at + 1), 3), perm=[0, 2, 1]) for at in (0, 1)
        )
    power = net.op("Add", net.op("Mul", real, real), net.op("Mul", imaginary, imaginary))
    mel = net.op("MatMul", net.const(np.abs(net.rng.normal(size=(6, bins)))), power)
    safe = {
        "clip": lambda: forms.clip(net, mel, 1e-7, None),
        "add": lambda: net.op("Add", mel, net.const(1e-6)),
        "max": lambda: net.op("Max", mel, net.const(1e-10)),
    }[log]()
    features = net.op("Log", safe)
    net.output(features, conv(net, features, 6, 4, 3, axes=1))


@pattern(kind=("causal", "separable", "gated"))
def time_convolution(net: Net, kind: str) -> None:
    """Temporal convolutions: padded on one side, separable, or gated as in WaveNet."""
    x = net.input("x", [1, WIDTH, 24])
    for dilation in (1, 2, 4):
        if kind == "causal":
            y = net.op(
                "Conv",
                forms.pad(net, x, [0, 0, 2 * dilation, 0, 0, 0]),
                net.weight(WIDTH, WIDTH, 3),
                net.bias(WIDTH),
                dilations=[dilation],
            )
            x = net.op("Add", x, net.op("Relu", y))
        elif kind == "separable":
            y = conv(net, conv(net, x, WIDTH, WIDTH, 5, axes=1, groups=WIDTH, dilations=[dilation]), WIDTH, WIDTH, 1, axes=1)
            x = net.op("Add", x, net.op("PRelu", y, net.const(np.full((WIDTH, 1), 0.2))))
        else:
            a, b = forms.split(net, conv(net, x, WIDTH, 2 * WIDTH, 3, axes=1, dilations=[dilation]), [WIDTH, WIDTH], 1)
            x = net.op("Add", x, net.op("Mul", net.op("Tanh", a), net.op("Sigmoid", b)))
    net.output(forms.reduce(net, "ReduceMean", x, 2, keep=False))
