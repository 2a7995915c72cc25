"""Language models: embeddings, tied weights, one layer used many times, experts, and decoders with a past."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from families import forms
from families.attention import LENGTH, WIDTH
from families.layers import act, linear
from families.net import SAMPLES
from families.registry import pattern

if TYPE_CHECKING:
    from families.net import Net

WORDS = 40


def tokens(net: Net, length: int = LENGTH) -> str:
    """Add an input of word numbers."""
    return net.input("input_ids", [1, length], net.rng.integers(0, WORDS, (SAMPLES, 1, length)), TensorProto.INT64)


def self_attention(net: Net, x: str) -> str:
    """One head."""
    query, key, value = (linear(net, x, WIDTH, WIDTH) for _ in range(3))
    scores = net.op("Softmax", net.op("MatMul", query, net.op("Transpose", key, perm=[0, 2, 1])), axis=2)
    return net.op("MatMul", scores, value)


@pattern(use=("transpose", "gemm", "matmul"), bias=(False, True))
def tied_embedding(net: Net, use: str, bias: bool) -> None:
    """The table of words is the last layer's weight, too."""
    table = net.const(0.5 * net.rng.normal(size=(WORDS, WIDTH)), name="wte.weight")
    x = net.op("Gather", table, tokens(net))
    x = forms.layer_norm(net, net.op("Add", x, self_attention(net, x)), WIDTH)
    if use == "gemm":
        rows = forms.reshape(net, x, -1, WIDTH)
        logits = net.op("Gemm", rows, table, *([net.bias(WORDS)] if bias else []), transB=1)
    else:
        head = net.op("Transpose", table, perm=[1, 0]) if use == "transpose" else net.weight(WIDTH, WORDS, fan_in=WIDTH)
        logits = net.op("MatMul", x, head)
        logits = net.op("Add", logits, net.bias(WORDS)) if bias else logits
    net.output(logits)


@pattern(parts=(1, 3), norm=("op", "nodes"))
def embeddings(net: Net, parts: int, norm: str) -> None:
    """BERT's: words, positions and kinds of segments, summed and normed."""
    x = net.op("Gather", net.const(net.rng.normal(size=(WORDS, WIDTH))), tokens(net))
    if parts > 1:
        x = net.op(
            "Add", x, net.op("Gather", net.const(net.rng.normal(size=(64, WIDTH)) / 4), net.const(np.arange(LENGTH), np.int64))
        )
        kinds = net.input("token_type_ids", [1, LENGTH], net.rng.integers(0, 2, (SAMPLES, 1, LENGTH)), TensorProto.INT64)
        x = net.op("Add", x, net.op("Gather", net.const(net.rng.normal(size=(2, WIDTH)) / 4), kinds))
    x = forms.layer_norm(net, x, WIDTH, norm)
    first = net.op("Gather", linear(net, x, WIDTH, WIDTH), net.const(0, np.int64), axis=1)
    net.output(linear(net, net.op("Tanh", first), WIDTH, 3))


@pattern(times=(3, 6), form=("matmul", "gemm"), norm=("op", "nodes"))
def one_layer_many_times(net: Net, times: int, form: str, norm: str) -> None:
    """ALBERT: the same weights and biases in every layer."""
    x = net.input("x", [LENGTH, WIDTH])
    weights = [net.weight(WIDTH, 32, fan_in=WIDTH, name="ffn.weight"), net.weight(32, WIDTH, fan_in=32, name="ffn.weight")]
    biases = [net.bias(32), net.bias(WIDTH)]
    for _ in range(times):
        y = x
        for place in range(2):
            if form == "gemm":
                y = net.op("Gemm", y, weights[place], biases[place])
            else:
                y = net.op("Add", net.op("MatMul", y, weights[place]), biases[place])
            y = forms.gelu(net, y) if place == 0 else y
        x = forms.layer_norm(net, net.op("Add", x, y), WIDTH, norm)
    net.output(x)


@pattern(gate=("softmax", "top-k"), weights=("batched", "separate"))
def experts(net: Net, gate: str, weights: str) -> None:
    """Mixture of experts: a router, and weights of three axes or of each expert."""
    count, x = 4, net.input("x", [LENGTH, WIDTH])
    route = net.op("Softmax", linear(net, x, WIDTH, count), axis=1)
    if gate == "top-k":
        net.output(route)
        best, places = forms.top_k(net, route, 2, 1)
        zeros = net.const(np.zeros((LENGTH, count)))
        route = net.op("ScatterElements", zeros, places, best, axis=1)
    if weights == "batched":
        inner = net.op("Relu", net.op("MatMul", forms.unsqueeze(net, x, 0), net.weight(count, WIDTH, 32, fan_in=WIDTH)))
        each = net.op("MatMul", inner, net.weight(count, 32, WIDTH, fan_in=32))
    else:
        parts = [linear(net, net.op("Relu", linear(net, x, WIDTH, 32)), 32, WIDTH) for _ in range(count)]
        each = net.op("Concat", *(forms.unsqueeze(net, part, 0) for part in parts), axis=0)
    shares = forms.unsqueeze(net, net.op("Transpose", route, perm=[1, 0]), 2)
    net.output(forms.reduce(net, "ReduceSum", net.op("Mul", each, shares), 0, keep=False))


@pattern(past=(0, 1, 5), layers=(1, 2), heads=(1, 2))
def decoder_with_past(net: Net, past: int, layers: int, heads: int) -> None:
    """One step of a decoder: keys and values of earlier steps come in and go out, longer by one."""
    size = WIDTH // heads
    x = net.op("Gather", net.const(net.rng.normal(size=(WORDS, WIDTH))), tokens(net, 1))
    for layer in range(layers):
        kept = [
            net.input(f"past_{layer}_{what}", [1, heads, "past", size], net.rng.normal(size=(SAMPLES, 1, heads, past, size)))
            for what in ("key", "value")
        ]
        query, *fresh = (
            net.op("Transpose", forms.reshape(net, linear(net, x, WIDTH, WIDTH), 1, 1, heads, size), perm=[0, 2, 1, 3])
            for _ in range(3)
        )
        key, value = (net.op("Concat", old, new, axis=2) for old, new in zip(kept, fresh, strict=True))
        scores = net.op("Softmax", net.op("MatMul", query, net.op("Transpose", key, perm=[0, 1, 3, 2])), axis=3)
        mixed = net.op("Transpose", net.op("MatMul", scores, value), perm=[0, 2, 1, 3])
        x = forms.layer_norm(net, net.op("Add", x, linear(net, forms.reshape(net, mixed, 1, 1, WIDTH), WIDTH, WIDTH)), WIDTH)
        net.output(key, value)
    net.output(linear(net, x, WIDTH, WORDS))


@pattern(form=("swiglu", "geglu"), norm=("nodes", "op"), opset=(17, 23))
def gated_layer(net: Net, form: str, norm: str) -> None:
    """LLaMA's: RMSNorm and a gated layer without biases."""
    x = net.input("x", [1, LENGTH, WIDTH])
    y = forms.rms_norm(net, x, WIDTH, norm)
    gate = act(net, linear(net, y, WIDTH, 32, bias=False), "silu" if form == "swiglu" else "gelu-tanh")
    y = linear(net, net.op("Mul", gate, linear(net, y, WIDTH, 32, bias=False)), 32, WIDTH, bias=False)
    net.output(net.op("Add", x, y))


@pattern(outliers=(1, 30, 300))
def loud_channel(net: Net, outliers: int) -> None:
    """A residual stream in which one channel is much louder than the rest, as in OPT and BLOOM."""
    scales = np.ones(WIDTH)
    scales[3] = outliers
    x = net.input("x", [1, LENGTH, WIDTH], net.rng.normal(size=(SAMPLES, 1, LENGTH, WIDTH)) * scales)
    y = linear(net, net.op("Relu", linear(net, forms.layer_norm(net, x, WIDTH), WIDTH, 32)), 32, WIDTH)
    net.output(net.op("Add", x, y))


@pattern(pool=("mean", "first", "max"))
def sentence(net: Net, pool: str) -> None:
    """A sentence's vector: tokens pooled under a mask, and normed to length 1."""
    x = net.op("Gather", net.const(net.rng.normal(size=(WORDS, WIDTH))), tokens(net))
    x = linear(net, x, WIDTH, WIDTH)
    if pool == "first":
        y = net.op("Gather", x, net.const(0, np.int64), axis=1)
    elif pool == "mean":
        some = net.rng.integers(2, LENGTH + 1, SAMPLES)
        given = (np.arange(LENGTH) < some[:, None]).reshape(SAMPLES, 1, LENGTH)
        mask = forms.unsqueeze(net, net.op("Cast", net.input("mask", [1, LENGTH], given, TensorProto.INT64), to=1), 2)
        total = forms.reduce(net, "ReduceSum", net.op("Mul", x, mask), 1, keep=False)
        y = net.op("Div", total, forms.clip(net, forms.reduce(net, "ReduceSum", mask, 1, keep=False), 1e-9, None))
    else:
        y = forms.reduce(net, "ReduceMax", x, 1, keep=False)
    norm = net.op("Expand", forms.clip(net, forms.reduce(net, "ReduceL2", y, 1), 1e-12, None), net.op("Shape", y))
    net.output(net.op("Div", y, norm))
