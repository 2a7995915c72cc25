"""Attention: masks of every kind, positions, and its forms in exported models."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from families import forms
from families.layers import heads, joined, linear
from families.net import SAMPLES
from families.registry import pattern

if TYPE_CHECKING:
    from families.net import Net

LENGTH, COUNT, SIZE = 8, 2, 8
WIDTH = COUNT * SIZE
LOWEST = {"finfo": float(np.finfo(np.float32).min), "1e9": -1e9, "10000": -1e4, "inf": -math.inf}


def lengths(net: Net) -> str:
    """Add an input that says which places count, [1, LENGTH]."""
    some = net.rng.integers(3, LENGTH + 1, SAMPLES)
    return net.input(
        "attention_mask", [1, LENGTH], (np.arange(LENGTH) < some[:, None]).reshape(SAMPLES, 1, LENGTH), TensorProto.INT64
    )


def masked(net: Net, scores: str, mask: str, lowest: float, form: str) -> str:
    """Put a mask [1, 1, 1 or LENGTH, LENGTH] of int64 on the scores."""
    if form == "where":
        return net.op("Where", net.op("Cast", mask, to=TensorProto.BOOL), scores, net.const(lowest))
    if form == "where-first":
        zero = net.op("Where", net.op("Cast", mask, to=TensorProto.BOOL), net.const(0.0), net.const(lowest))
        return net.op("Add", scores, zero)
    inverse = net.op("Sub", net.const(1.0), net.op("Cast", mask, to=TensorProto.FLOAT))
    return net.op("Add", scores, net.op("Mul", inverse, net.const(lowest)))


@pattern(form=("where", "where-first", "add"), lowest=("finfo", "1e9", "10000"), causal=(False, True), opset=(12,))
def masked_attention(net: Net, form: str, lowest: str, causal: bool) -> None:
    """Self-attention whose mask is computed in the graph."""
    x = net.input("x", [1, LENGTH, WIDTH])
    query, key, value = (linear(net, x, WIDTH, WIDTH, gain=1.5) for _ in range(3))
    mask = forms.unsqueeze(net, lengths(net), 1, 2)
    if causal:
        mask = net.op("Mul", mask, net.const(np.tril(np.ones((1, 1, LENGTH, LENGTH))), np.int64, "causal"))
    scores = net.op("MatMul", heads(net, query, LENGTH, COUNT, SIZE), heads(net, key, LENGTH, COUNT, SIZE, transposed=True))
    scores = masked(net, net.op("Div", scores, net.const(math.sqrt(SIZE))), mask, LOWEST[lowest], form)
    mixed = net.op("MatMul", net.op("Softmax", scores, axis=3), heads(net, value, LENGTH, COUNT, SIZE))
    net.output(linear(net, joined(net, mixed, LENGTH, COUNT, SIZE), WIDTH, WIDTH))


@pattern(form=("where", "add"), opset=(13, 17))
def infinite_mask(net: Net, form: str) -> None:
    """A causal mask of -infinity, as a constant."""
    x = net.input("x", [1, LENGTH, WIDTH])
    query, key, value = (linear(net, x, WIDTH, WIDTH, gain=1.5) for _ in range(3))
    scores = net.op("MatMul", query, net.op("Transpose", key, perm=[0, 2, 1]))
    seen = np.tril(np.ones((LENGTH, LENGTH), bool))
    if form == "where":
        scores = net.op("Where", net.const(seen, bool), scores, net.const(-math.inf))
    else:
        scores = net.op("Add", scores, net.const(np.where(seen, 0, -np.inf)))
    net.output(net.op("MatMul", net.op("Softmax", scores, axis=2), value))


@pattern(fused=("split", "slice", "gather"), norm=("op", "nodes"))
def fused_projection(net: Net, fused: str, norm: str) -> None:
    """ViT's and GPT-2's block: one projection for query, key and value, a norm before."""
    x = net.input("x", [1, LENGTH, WIDTH])
    both = linear(net, forms.layer_norm(net, x, WIDTH, norm), WIDTH, 3 * WIDTH)
    if fused == "split":
        parts = [heads(net, part, LENGTH, COUNT, SIZE) for part in forms.split(net, both, [WIDTH] * 3, 2)]
    elif fused == "slice":
        parts = [heads(net, forms.cut(net, both, 2, at * WIDTH, (at + 1) * WIDTH), LENGTH, COUNT, SIZE) for at in range(3)]
    else:
        five = net.op("Transpose", forms.reshape(net, both, 1, LENGTH, 3, COUNT, SIZE), perm=[2, 0, 3, 1, 4])
        parts = [net.op("Gather", five, net.const(at, np.int64), axis=0) for at in range(3)]
    scores = net.op("MatMul", parts[0], net.op("Transpose", parts[1], perm=[0, 1, 3, 2]))
    mixed = net.op("MatMul", net.op("Softmax", net.op("Mul", scores, net.const(SIZE**-0.5)), axis=3), parts[2])
    x = net.op("Add", x, linear(net, joined(net, mixed, LENGTH, COUNT, SIZE), WIDTH, WIDTH))
    inner = forms.gelu(net, linear(net, forms.layer_norm(net, x, WIDTH, norm), WIDTH, 32))
    net.output(net.op("Add", x, linear(net, inner, 32, WIDTH)))


@pattern(position=("rotary", "relative", "sinusoid", "alibi"))
def positions(net: Net, position: str) -> None:
    """What tells attention where a token stands."""
    x = net.input("x", [1, LENGTH, WIDTH])
    angles = np.arange(LENGTH)[:, None] / 100 ** (np.arange(SIZE // 2) / SIZE * 2)
    if position == "sinusoid":
        waves = np.concatenate([np.sin(angles), np.cos(angles)], 1)
        x = net.op("Add", x, net.const(np.tile(waves, (1, COUNT))))
    query, key, value = (heads(net, linear(net, x, WIDTH, WIDTH), LENGTH, COUNT, SIZE) for _ in range(3))
    if position == "rotary":
        sine, cosine = (net.const(np.tile(f(angles), (1, 2))) for f in (np.sin, np.cos))
        turned = []
        for each in (query, key):
            low, high = forms.cut(net, each, 3, 0, SIZE // 2), forms.cut(net, each, 3, SIZE // 2, 2**62)
            swapped = net.op("Concat", net.op("Neg", high), low, axis=3)
            turned.append(net.op("Add", net.op("Mul", each, cosine), net.op("Mul", swapped, sine)))
        query, key = turned
    scores = net.op("MatMul", query, net.op("Transpose", key, perm=[0, 1, 3, 2]))
    away = np.arange(LENGTH)[:, None] - np.arange(LENGTH)
    if position == "relative":
        table = net.op(
            "Gather",
            net.const(net.rng.normal(size=(2 * LENGTH, COUNT)), name="relative_bias"),
            net.const(away + LENGTH, np.int64),
        )
        scores = net.op("Add", scores, net.op("Transpose", table, perm=[2, 0, 1]))
    elif position == "alibi":
        scores = net.op("Add", scores, net.const(-np.abs(away)[None] * np.array([0.5, 0.06]).reshape(2, 1, 1)))
    net.output(joined(net, net.op("MatMul", net.op("Softmax", scores, axis=3), value), LENGTH, COUNT, SIZE))


@pattern(kind=("cross", "grouped", "linear", "window", "einsum"))
def other_attention(net: Net, kind: str) -> None:
    """Cross, grouped-query, linear, windowed attention, and one written with Einsum."""
    x = net.input("x", [1, LENGTH, WIDTH])
    source = net.input("memory", [1, LENGTH, WIDTH]) if kind == "cross" else x
    query = heads(net, linear(net, x, WIDTH, WIDTH), LENGTH, COUNT, SIZE)
    if kind == "grouped":
        key, value = (
            net.op("Expand", heads(net, linear(net, source, WIDTH, SIZE), LENGTH, 1, SIZE), net.ints(1, COUNT, LENGTH, SIZE))
            for _ in range(2)
        )
    else:
        key, value = (heads(net, linear(net, source, WIDTH, WIDTH), LENGTH, COUNT, SIZE) for _ in range(2))
    if kind == "linear":
        query, key = (net.op("Add", net.op("Elu", each), net.const(1.0)) for each in (query, key))
        state = net.op("MatMul", net.op("Transpose", key, perm=[0, 1, 3, 2]), value)
        scale = net.op("MatMul", query, net.op("Transpose", forms.reduce(net, "ReduceSum", key, 2), perm=[0, 1, 3, 2]))
        net.output(joined(net, net.op("Div", net.op("MatMul", query, state), scale), LENGTH, COUNT, SIZE))
        return
    if kind == "window":
        query, key, value = (forms.reshape(net, each, 1, COUNT * 2, LENGTH // 2, SIZE) for each in (query, key, value))
    if kind == "einsum":
        scores = net.op("Softmax", net.op("Einsum", query, key, equation="bhqd,bhkd->bhqk"), axis=3)
        mixed = net.op("Einsum", scores, value, equation="bhqk,bhkd->bhqd")
    else:
        scores = net.op("Softmax", net.op("MatMul", query, net.op("Transpose", key, perm=[0, 1, 3, 2])), axis=3)
        mixed = net.op("MatMul", scores, value)
    if kind == "window":
        mixed = forms.reshape(net, mixed, 1, COUNT, LENGTH, SIZE)
    net.output(joined(net, mixed, LENGTH, COUNT, SIZE))


@pattern(opset=(23,), causal=(0, 1), mask=(False, True))
def attention_operator(net: Net, causal: int, mask: bool) -> None:
    """The standard operator Attention."""
    x = net.input("x", [1, LENGTH, WIDTH])
    parts = [linear(net, x, WIDTH, WIDTH) for _ in range(3)]
    if mask:
        parts.append(net.const(net.rng.random((LENGTH, LENGTH)) < 0.7 + np.eye(LENGTH), bool))
    y = net.op("Attention", *parts, q_num_heads=COUNT, kv_num_heads=COUNT, is_causal=causal)
    net.output(linear(net, y, WIDTH, WIDTH))
