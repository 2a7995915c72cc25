"""Fidelity and accuracy: the evaluation inputs, the reference outputs on the controller, and the comparison of a case's outputs."""

from __future__ import annotations

import copy
import functools
import hashlib
import io
import itertools
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from harness import files
from harness.errors import DataError, ModelError
from harness.measure import resemblance
from harness.measure.events import FidelityLine
from harness.measure.plan import Inputs
from harness.quantize.data import lint
from harness.quantize.data.fit import empty_inputs
from harness.quantize.verify import class_output, fidelity, reproducibility, uncompared
from harness.quantize.verify.fidelity import Fidelity
from harness.quantize.verify.pairing import batch_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from harness.measure.plan import Case
    from harness.quantize.data.load import Samples
    from harness.quantize.metric import Metric
    from harness.quantize.verify.reproducibility import Difference

# What messages call the model that outputs are compared with.
FP32, HERE = "fp32", "the same model on this machine"
# How an .npy file of format 1.0 begins.
PLAIN = b"\x93NUMPY\x01\x00"
# An .npz file's headers, for each array.
HEADER_BYTES = 4096
# onnxruntime's own words for an error come with the exception; its log would put them on the terminal as well.
FATAL_ONLY = 4


class Reference:
    """The controller's fp32 outputs for one set of dimensions.

    Attributes:
        outputs: for each sample the numeric outputs of the model, in order.
        names: of these outputs.
        labels: int64 [samples x batch], where the evaluation data have them.
        metric: the user's own figures, where the study names them.
        every: names of all outputs, those that are not numeric too.
        uncompared: a sentence on the outputs that are not numeric; None if all are.
        difference: how the model does not reproduce itself; None if it does.
        chosen: the output that labels are held against.
        title: what messages call this model.
        batch: how many samples each feed holds, as far as its inputs tell.
    """

    title = FP32
    batch: int | None = None
    every: Sequence[str] = ()
    uncompared: str | None = None
    difference: Difference | None = None
    chosen = class_output.Choice(None)

    def __init__(
        self, model: Path, samples: Samples, metric: Metric | None = None, output: str | None = None, title: str = FP32
    ) -> None:
        """Run the model, some samples twice, and try the metric on its outputs.

        Args:
            model: its file.
            samples: the evaluation data.
            metric: the user's own figures, where the study names them.
            output: the one that labels are held against; None chooses one.
            title: what messages call this model.

        Raises:
            ModelError: if onnxruntime can't load it or run it with these inputs.
            DataError: if the metric fails.
        """
        options = ort.SessionOptions()
        options.log_severity_level = FATAL_ONLY
        try:
            session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
            answers = [session.run(None, feed) for feed in samples.feeds]
            given = {output.name: output.type for output in session.get_outputs()}
            self.every = list(given)
            del session  # the check opens the model again, and two large ones need twice the memory
            self.difference = reproducibility.differs(model, samples.feeds, answers)
        except DataError:
            raise
        except Exception as exc:
            hint = "; random inputs may not suit this model: give real data (calibration, evaluation)" if samples.random else ""
            empty = next(filter(None, map(empty_inputs, samples.feeds)), None)
            hint += f"; {empty}" if empty else ""
            said = " ".join(str(exc).split())[:600]
            message = (
                f"{model}: onnxruntime {ort.__version__} can't run this model with inputs from {samples.source}: {said}{hint}"
            )
            raise ModelError(message) from exc
        self.outputs: list[list[NDArray[Any]]] = [[output for output in answer if _numeric(output)] for answer in answers]
        first = answers[0] if answers else []
        self.names = [name for name, output in zip(self.every, first, strict=False) if _numeric(output)]
        self.uncompared = uncompared.sentence(given, self.names) if answers else None
        self.labels = samples.labels
        self.chosen = class_output.find(self.outputs, self.names, self.labels, output)
        self.metric = metric
        self.title = title
        self.batch = batch_of(next(iter(samples.feeds), {}))
        self._measured(self.outputs, self.labels)

    def doubts(self) -> tuple[str, ...]:
        """Warnings from the float model's outputs: about the evaluation data, and about comparing variants with them."""
        found = tuple(filter(None, [self.difference.sentence if self.difference else None, self.chosen.note, self.uncompared]))
        if self.labels is None or self.chosen.output is None:
            return found
        right = self._accuracy(self.outputs, self.labels)
        if self.difference and (name := self.chosen.name(self.difference.outputs)):
            found += (reproducibility.of_labels(name),)
        return (*found, *lint.guessing(right, len(self.labels), self.chosen.output.classes))

    def _accuracy(self, outputs: Sequence[list[NDArray[Any]]], labels: NDArray[np.int64] | None) -> float | None:
        """The share of rows whose class is the label."""
        chosen = self.chosen.output
        return None if chosen is None or labels is None else class_output.accuracy(chosen, self._of(chosen.name, outputs), labels)

    def _of(self, name: str, outputs: Sequence[list[NDArray[Any]]]) -> list[NDArray[Any]]:
        """One output's values of all samples."""
        return [sample[self.names.index(name)] for sample in outputs]

    def compare(self, device: str, case: Case, data: bytes, differing: Collection[int] = ()) -> FidelityLine:
        """Compare a case's outputs with the reference.

        Args:
            device: who computed them.
            case: of what.
            data: an .npz file with ``arr_0``, ``arr_1``, … as the runner writes it; it is input and is checked.
            differing: positions, among all outputs, of those that differ between two runs on that device; they are not compared,
                as those that differ on the controller.

        Returns:
            The figures, or the reason why there are none.
        """
        there = {name for position, name in enumerate(self.every) if position in differing}
        left_out = [name for name in self.names if name in there or (self.difference and name in self.difference.outputs)]
        try:
            outputs = self._read(data)
            rows = None if self.labels is None else self.labels[: len(self.labels) * len(outputs) // len(self.outputs)]
            found = self._compared(outputs, left_out)
            accuracy = self._accuracy(outputs, rows)
            metrics, refusal = self._tried(outputs, rows)
            unlike = resemblance.unlike(self.outputs[: len(outputs)], outputs, self.names, found)
        except Exception as exc:  # noqa: BLE001 - a damaged archive raises whatever it likes, and the other devices go on
            return FidelityLine(device=device, case=case.id, reason=f"the outputs can't be compared: {exc}"[:4000])
        reasons = [refusal]
        if left_out:
            reasons.append(f"two runs on the same inputs differ: {reproducibility.withheld(left_out, self._others(left_out))}")
            if accuracy is not None and self.chosen.name(left_out):
                reasons.append(reproducibility.of_labels(str(self.chosen.name(left_out))))
        said = {
            "device": device,
            "case": case.id,
            # What could not be compared keeps what the labels tell.
            "fidelity": replace(found, top1_accuracy=accuracy).as_json(),
            "reference": self.title,
            "notes": [_line(note) for note in found.notes_against(self.title)],
            "uncompared": self.uncompared and _line(self.uncompared),
            "unlike": unlike,
            "samples": len(outputs),
            "metrics": metrics,
            "reason": "; ".join(filter(None, reasons))[:4000] or None,
        }
        return FidelityLine.model_validate(said)

    def named(self, title: str) -> Reference:
        """The same outputs under another title."""
        found = copy.copy(self)
        found.title = title
        return found

    def tells(self, metric: str) -> bool:
        """Whether a gate's metric, ``sqnr`` or ``top1_agreement``, can be computed from these outputs."""
        own = self._compared(self.outputs, self.difference.outputs if self.difference else ())
        return own.top1_agreement is not None if metric == "top1_agreement" else own.sqnr_db is not None

    def _compared(self, outputs: Sequence[list[NDArray[Any]]], left_out: Collection[str]) -> Fidelity:
        """Compare the outputs that reproduce themselves; there are no figures if none do."""
        kept = self._others(left_out)
        if not kept:
            return Fidelity()
        reference, candidate = (
            [{name: value for name, value in zip(self.names, sample, strict=True) if name in kept} for sample in side]
            for side in (self.outputs[: len(outputs)], outputs)
        )
        found, chosen = (
            fidelity.compare(reference, candidate, batch=self.batch, classes=self.chosen.name(kept)),
            self.chosen.output,
        )
        found = replace(found, identical=False) if self.uncompared else found
        if chosen is None or chosen.name not in kept:
            return found
        agreement = class_output.agreement(
            chosen, self._of(chosen.name, self.outputs[: len(outputs)]), self._of(chosen.name, outputs)
        )
        return replace(found, top1_agreement=agreement)

    def _others(self, left_out: Collection[str]) -> list[str]:
        return [name for name in self.names if name not in left_out]

    def _tried(
        self, outputs: Sequence[list[NDArray[Any]]], labels: NDArray[np.int64] | None
    ) -> tuple[dict[str, float], str | None]:
        """Compute the metric of a case; if it fails, the other figures remain."""
        try:
            return self._measured(outputs, labels), None
        except DataError as exc:
            return {}, str(exc)[:4000]

    def _measured(self, outputs: Sequence[list[NDArray[Any]]], labels: NDArray[np.int64] | None) -> dict[str, float]:
        if self.metric is None:
            return {}
        found, reference = (
            [dict(zip(self.names, sample, strict=True)) for sample in side] for side in (outputs, self.outputs[: len(outputs)])
        )
        return self.metric(found, reference, labels)

    def _read(self, data: bytes) -> list[list[NDArray[Any]]]:
        """Read a runner's file of outputs, sample by sample; an emulated device computes only the first ones."""
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            promised = sum(entry.file_size for entry in archive.infolist())
            expected = sum(array.size * 8 + HEADER_BYTES for sample in self.outputs for array in sample)
            if promised > expected:
                message = f"they hold {promised} bytes, more than the {expected} that could be"
                raise ValueError(message)
            arrays = [_array(archive.read(f"arr_{index}.npy")) for index in range(len(archive.namelist()))]
        flat = iter(arrays)
        ends = list(itertools.accumulate(len(sample) for sample in self.outputs))
        if len(arrays) not in ends:
            message = f"{len(arrays)} arrays, the reference has {ends[-1]} in {len(ends)} samples"
            raise ValueError(message)
        computed = self.outputs[: ends.index(len(arrays)) + 1]
        return [list(itertools.islice(flat, len(sample))) for sample in computed]


def write_inputs(samples: Samples, dims: dict[str, int], folder: Path) -> Inputs:
    """Write the evaluation inputs as the file that runners read.

    Args:
        samples: their feeds.
        dims: the symbolic dimensions' values that they are for.
        folder: where the file goes, under its hash.
    """
    feeds = list(samples.feeds)  # a runner reads them as one array
    names = tuple(feeds[0])
    buffer = io.BytesIO()
    stacks: Sequence[NDArray[Any]] = [np.stack([feed[name] for feed in feeds]) for name in names]
    np.savez(buffer, *stacks)
    data = buffer.getvalue()
    sha256 = hashlib.sha256(data).hexdigest()
    path = folder / f"{sha256}.npz"
    files.write_bytes(path, data)
    return Inputs(path=path, sha256=sha256, names=names, dims=dims)


def _line(words: str) -> str:
    """A sentence on one line, as long as the journal allows."""
    return " ".join(words.split())[:4000]


def _array(data: bytes) -> NDArray[Any]:
    """Read an .npy file. There are thousands, and numpy reads each header as Python, which takes longer than all the rest."""
    end = len(PLAIN) + 2 + int.from_bytes(data[len(PLAIN) : len(PLAIN) + 2], "little")
    if data.startswith(PLAIN):
        shape, by_columns, dtype = _header(data[len(PLAIN) : end])
        if not by_columns and not dtype.hasobject:
            return np.frombuffer(data, dtype, offset=end).reshape(shape)
    found: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    return found


@functools.lru_cache(maxsize=64)
def _header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    return np.lib.format.read_array_header_1_0(io.BytesIO(data))


def _numeric(output: object) -> bool:
    """Whether an output can be compared; a runner sends no others."""
    return isinstance(output, np.ndarray) and output.dtype.kind in "fiub"
