"""Which tensors of a variant are far from fp32's, and how much of that is lost where."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnxruntime.quantization.qdq_loss_debug import (
    collect_activations,
    create_activation_matching,
    modify_model_output_intermediate_tensors,
)

from harness.debug import integers
from harness.debug.session import Session
from harness.quantize.quiet import quiet
from harness.quantize.verify.output import OutputSums
from harness.quantize.verify.pairing import batch_of
from harness.quantize.verify.parts import Part, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

    from harness.debug.session import Feed

    Array = NDArray[Any]
    Shape = tuple[int, ...]
    # A tensor's name, its values in fp32 and in the variant, and there before they were rounded, one array for each feed.
    Match = tuple[str, Sequence[Array], Sequence[Array], Sequence[Array] | None]

CHUNK_BYTES = 2**27  # of activations that are held at a time, of each model
LARGEST = 2**31  # bytes; protobuf's limit for one message


@dataclass(frozen=True)
class TensorLoss:
    """A tensor that differs from fp32's.

    Attributes:
        name: in the prepared model.
        node: what makes it there; empty for an input of the model.
        op_type: of that node; ``input`` for an input.
        sqnr_db: fp32's values against the variant's: 20·log10 of the ratio of the norms, as in qdq_loss_debug; -infinite if the
            variant's are not finite.
        own_db: SQNR of rounding this tensor alone, before against after it; None where the tensor is not rounded, or only the
            result is to be seen (QOperator, dynamic).
        lost_db: by how much the SQNR is below that of the worst of the tensors that it is made from; None without such.
        worst_db: of the slice along a small axis whose SQNR is lowest; None if there is no such axis.
        worst: what that slice is called, such as ``channel 3``.
        dead: the slices that are constant in the variant and vary in fp32, such as ``rows 4-9``; None if there are none.
        dead_share: share of the tensor's values in these.
    """

    name: str
    node: str
    op_type: str
    sqnr_db: float
    own_db: float | None = None
    lost_db: float | None = None
    worst_db: float | None = None
    worst: str | None = None
    dead: str | None = None
    dead_share: float = 0.0


class _Sums:
    """A tensor of both models, added up over feeds."""

    def __init__(self, name: str, shape: Shape | None, batch: int | None) -> None:
        self._name, self._shape, self._batch = name, shape, batch
        self._sums: OutputSums | None = None
        self._has_slices = True

    def add(self, reference: Sequence[Array], candidate: Sequence[Array]) -> None:
        for one, other in zip(reference, candidate, strict=True):
            ref = self._shaped(one)
            x = other.reshape(ref.shape)
            batched = ref.ndim > 0 and len(ref) == self._batch
            self._sums = self._sums or OutputSums(self._name, is_float=True, batched=batched)
            self._sums.add(*(side if batched else side[None] for side in (ref, x)))

    def _shaped(self, values: Array) -> Array:
        """Give a flat tensor its shape back, as far as that is known."""
        if self._shape is not None and math.prod(self._shape) == values.size:
            return values.reshape(self._shape)
        self._has_slices = self._has_slices and values.ndim > 1
        return values

    @property
    def sqnr(self) -> float:
        """Of the whole tensor, in dB; -infinite if the variant's values are not finite where the reference's are."""
        found = self._sums.fidelity().sqnr_db if self._sums else None
        return -math.inf if found is None or math.isnan(found) or (self._sums and self._sums.unequal) else found

    @property
    def worst(self) -> Part | None:
        """The slice of the lowest SQNR."""
        return self._sums.worst_slice() if self._sums and self._has_slices else None

    @property
    def dead(self) -> tuple[str | None, float]:
        """The slices that are constant in the variant and vary in fp32, and the share of the values in them."""
        parts, share = self._sums.dead() if self._sums and self._has_slices else ([], 0.0)
        return (_short(name_of(parts), self._name), share) if parts else (None, 0.0)


def _short(name: str, tensor: str) -> str:
    return name.removesuffix(f" of {tensor}")


def rank(
    reference: Path,
    variant: Path,
    feeds: Sequence[Feed],
    folder: Path,
    *,
    qdq: bool,
    on_chunk: Callable[[int], None] = lambda _: None,
) -> tuple[list[TensorLoss], int]:
    """Compare the tensors that both models have.

    A variant in the QDQ format is matched by onnxruntime's qdq_loss_debug. Of any other the tensors of the same name are taken,
    integer ones dequantized. A few feeds are computed at a time, so that memory does not grow with their number.

    Args:
        reference: the prepared float model.
        variant: what was made of it.
        feeds: of both models.
        folder: for temporary files.
        qdq: whether the variant is in the QDQ format.
        on_chunk: is told how many feeds are done.

    Returns:
        The tensors that differ, the worst first, and how many are exactly fp32's.

    Raises:
        Exception: of onnxruntime or onnx, if a model can't be opened up.
    """
    original = onnx.load(reference)
    matches = (
        _by_qdq_loss_debug(reference, variant, feeds, folder, on_chunk)
        if qdq
        else _by_outputs(original, onnx.load(variant), feeds, on_chunk)
    )
    makers = {output: node for node in original.graph.node for output in node.output if output}
    batch = batch_of(feeds[0]) if feeds else None
    # The tools flatten what they compute.
    shapes = _shapes(original, feeds[0]) if qdq and feeds else {}
    across: dict[str, _Sums] = {}
    rounding: dict[str, _Sums] = {}
    for name, ref, x, before in matches:
        if any(a.size != b.size for a, b in zip(ref, x, strict=True)):
            continue
        limits = integers.limits(makers.get(name), original)
        # Where only the value before its rounding is to be seen, the range of the integers has not clamped it yet.
        across.setdefault(name, _Sums(name, shapes.get(name), batch)).add(
            ref, [np.clip(each, *limits) for each in x] if limits and before is None else x
        )
        if before is not None:
            rounding.setdefault(name, _Sums(name, shapes.get(name), batch)).add(
                [np.clip(each, *limits) for each in before] if limits else before, x
            )
    sqnr = {name: sums.sqnr for name, sums in across.items()}
    own = {name: sums.sqnr for name, sums in rounding.items()}
    losses = [_loss(name, sqnr, own.get(name), makers, across[name]) for name in sqnr if sqnr[name] < math.inf]
    return sorted(losses, key=lambda loss: loss.sqnr_db), len(sqnr) - len(losses)


def _loss(name: str, sqnr: dict[str, float], own: float | None, makers: dict[str, NodeProto], sums: _Sums) -> TensorLoss:
    node = makers.get(name)
    best = min((sqnr[source] for source in _sources(name, sqnr, makers)), default=None)
    # A tensor that is made from exact ones lost all that it lost here, which is no number of decibels.
    lost = best - sqnr[name] if best is not None and math.isfinite(best) and math.isfinite(sqnr[name]) else None
    worst, (dead, share) = sums.worst, sums.dead
    return TensorLoss(
        name,
        node.name if node else "",
        node.op_type if node else "input",
        sqnr[name],
        own,
        lost,
        worst_db=worst.sqnr_db if worst else None,
        worst=_short(worst.name, name) if worst else None,
        dead=dead,
        dead_share=share,
    )


def _sources(name: str, known: dict[str, float], makers: dict[str, NodeProto]) -> set[str]:
    """The nearest tensors before one that were compared; a variant lacks those between fused nodes."""
    found: set[str] = set()
    seen = {name}
    waiting = list(makers[name].input) if name in makers else []
    while waiting:
        source = waiting.pop()
        if source in seen:
            continue
        seen.add(source)
        if source in known:
            found.add(source)
        elif source in makers:
            waiting += makers[source].input
    return found


def _by_qdq_loss_debug(
    reference: Path, variant: Path, feeds: Sequence[Feed], folder: Path, on_chunk: Callable[[int], None]
) -> Iterator[Match]:
    opened = [folder / "opened-reference.onnx", folder / "opened-variant.onnx"]
    for model, path in zip((reference, variant), opened, strict=True):
        with quiet():
            modify_model_output_intermediate_tensors(model, path, save_as_external_data=model.stat().st_size > LARGEST // 2)
    start, size = 0, 1
    while start < len(feeds):
        part = feeds[start : start + size]
        with quiet():
            originals, quantized = (collect_activations(str(path), part) for path in opened)
            matches = create_activation_matching(quantized, originals)
        for name, match in matches.items():
            if "float" in match:
                yield name, match["float"], match["post_qdq"], match["pre_qdq"]
        for name, values in quantized.items():
            if name in originals and name not in matches:
                yield name, originals[name], values, None
        start += size
        on_chunk(min(start, len(feeds)))
        # collect_activations opens the model anew each time, so as many feeds are given to it as memory allows.
        held = sum(value.nbytes for values in originals.values() for value in values) // max(1, len(part))
        size = max(1, CHUNK_BYTES // max(1, held))


def _by_outputs(
    original: ModelProto, variant: ModelProto, feeds: Sequence[Feed], on_chunk: Callable[[int], None]
) -> Iterator[Match]:
    """Match by name: every float tensor of the main graph that both models compute, and quantized ones by their scales."""
    there = integers.quantized_tensors(original, variant)
    computed = {output for node in variant.graph.node for output in node.output if output}
    names = [name for node in original.graph.node for name in node.output if name in computed]
    both = (
        _opened(original, [*names, *(each.reference for each in there)]),
        _opened(variant, [*names, *(each.name for each in there)]),
    )
    for number, feed in enumerate(feeds, 1):
        ref, x = (session.run(feed) for session in both)
        for name in names:
            if name in ref and name in x and ref[name].dtype.kind == x[name].dtype.kind == "f":
                yield name, [ref[name]], [x[name]], None
        for each in there:
            if each.reference in ref and each.name in x:
                yield each.reference, [ref[each.reference]], [each.values(x[each.name])], None
        on_chunk(number)


def _shapes(model: ModelProto, feed: Feed) -> dict[str, Shape]:
    """The shapes of the tensors of the main graph, of one sample; empty if they can't all be computed at once."""
    names = [name for node in model.graph.node for name in node.output if name]
    try:
        found = _opened(model, names).run(feed)
    except Exception:  # noqa: BLE001 - then slices are left out, and tensors as a whole are compared
        found = {}
    return {name: value.shape for name, value in (*feed.items(), *found.items())}


def _opened(model: ModelProto, names: Sequence[str]) -> Session:
    """Open a model with further tensors as outputs; onnxruntime finds their types itself."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    given = {output.name for output in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names) if name not in given)
    return Session(copy.SerializeToString(), optimized=False)
