"""A board's outputs are input: any bytes give figures or a reason."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.measure.accuracy import Reference
from harness.measure.events import FidelityLine
from harness.quantize.metric import Metric
from harness.quantize.verify import class_output
from harness.quantize.verify.reproducibility import Difference
from tests.models import images

CASE: Any = type("Case", (), {"id": "c0"})
OUTPUTS = [image.reshape(1, -1) for image in images(4)]


def reference(outputs: list[Any] = OUTPUTS) -> Reference:
    made = object.__new__(Reference)
    made.outputs, made.names, made.labels, made.metric = [[output] for output in outputs], ["y"], None, None
    return made


def packed(*arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, *arrays)
    return buffer.getvalue()


def compared(data: bytes) -> FidelityLine:
    return reference().compare("board", CASE, data)


def test_the_same_outputs() -> None:
    found = compared(packed(*OUTPUTS))
    assert (found.fidelity.identical, found.fidelity.mse, found.samples, found.reason) == (True, 0.0, 4, None)


@pytest.mark.parametrize("change", [np.asfortranarray, lambda array: array.astype(">f4"), lambda array: array[:, ::1]])
def test_any_layout_in_memory_is_read(change: Any) -> None:
    found = compared(packed(*map(change, OUTPUTS)))
    assert (found.fidelity.identical, found.reason) == (True, None)


@pytest.mark.parametrize("dtype", ["f2", "f8", "i1", "u8", "?", "i4"])
def test_every_kind_of_number(dtype: str) -> None:
    outputs = [(10 * output).astype(dtype) for output in OUTPUTS]
    assert reference(outputs).compare("board", CASE, packed(*outputs)).fidelity.identical


def test_a_longer_header_is_read() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for index, output in enumerate(OUTPUTS):
            array = io.BytesIO()
            np.lib.format.write_array(array, output, version=(2, 0))
            archive.writestr(f"arr_{index}.npy", array.getvalue())
    assert compared(buffer.getvalue()).fidelity.identical


def test_pickles_are_never_loaded() -> None:
    assert "pickle" in str(compared(packed(np.array([print], dtype=object))).reason).lower()


@pytest.mark.parametrize(
    "data", [b"", b"PK", packed(), packed(OUTPUTS[0][:, :3]), packed(*OUTPUTS, OUTPUTS[0]), packed(np.array("text"))]
)
def test_what_does_not_fit(data: bytes) -> None:
    found = compared(data)
    assert str(found.reason).startswith("the outputs can't be compared: ")
    assert found.fidelity.mse is None


WHOLE = packed(*OUTPUTS)


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255), st.integers(0, len(WHOLE)))
def test_any_damage_is_a_reason_or_other_figures(place: int, flip: int, end: int) -> None:
    data = bytearray(WHOLE)
    data[place] ^= flip
    for damaged in (bytes(data), WHOLE[:end], bytes(data)[:end]):
        assert compared(damaged).case == "c0"


def test_the_metric_of_the_study_stands_beside_the_others() -> None:
    made = reference()
    made.metric = Metric("mine:rate", lambda outputs, fp32, _: float(len(outputs) + len(fp32) + len(outputs[0]["y"])))
    assert made.compare("board", CASE, packed(*OUTPUTS[:2])).metrics == {"rate": 5.0}


def test_a_metric_that_fails_costs_nothing_else() -> None:
    made = reference()
    made.metric = Metric("mine:rate", lambda *_: 1 / 0)
    found = made.compare("board", CASE, WHOLE)
    assert (found.metrics, found.fidelity.mse) == ({}, 0.0)
    assert "model.metric: mine:rate: raised ZeroDivisionError" in str(found.reason)


def test_outputs_that_differ_between_two_runs_are_left_out() -> None:
    made = reference()
    made.every = ["y"]
    found = made.compare("board", CASE, packed(*OUTPUTS), [0])
    assert (found.fidelity.mse, found.fidelity.sqnr_db, found.fidelity.identical, found.samples) == (None, None, False, 4)
    assert found.reason is not None
    assert "left out for output 'y'" in found.reason


def test_the_other_outputs_are_still_compared() -> None:
    made = object.__new__(Reference)
    made.outputs, made.names, made.labels, made.metric = [[output, -output] for output in OUTPUTS], ["y", "z"], None, None
    made.every = ["words", "y", "z"]
    noisy = [array for output in OUTPUTS for array in (output + 1, -output)]
    assert not made.compare("board", CASE, packed(*noisy)).fidelity.identical
    found = made.compare("board", CASE, packed(*noisy), [1])
    assert (found.fidelity.identical, found.fidelity.mse) == (True, 0.0)
    assert found.reason is not None
    assert "the figures that are given are of output 'z' alone" in found.reason


def test_what_the_controller_can_not_reproduce_is_left_out_everywhere() -> None:
    made = reference()
    made.difference = Difference(("y",), (), "RandomNormalLike 'noise'")
    assert made.compare("board", CASE, packed(*OUTPUTS)).fidelity.mse is None
    assert made.doubts() == (made.difference.sentence,)


def test_accuracy_is_given_for_an_output_that_is_left_out() -> None:
    made = reference()
    made.every, made.labels = ["y"], np.array([output.argmax() for output in OUTPUTS])
    made.chosen = class_output.find(made.outputs, made.names, made.labels)
    found = made.compare("board", CASE, packed(*OUTPUTS), [0])
    assert (found.fidelity.top1_accuracy, found.fidelity.top1_agreement) == (1.0, None)
    assert found.reason
    assert "top-1 and its drop change from run to run" in found.reason
    made.difference = Difference(("y",), (), "Dropout 'drop'")
    assert any("top-1 and its drop change from run to run" in doubt for doubt in made.doubts())


def test_labels_suit_further_axes_of_one() -> None:
    outputs = [output[:, :, None, None] for output in OUTPUTS]
    made = reference(outputs)
    made.labels = np.array([output.argmax() for output in OUTPUTS])
    made.chosen = class_output.find(made.outputs, made.names, made.labels)
    found = made.compare("board", CASE, packed(*outputs))
    assert (found.fidelity.top1_accuracy, found.fidelity.top1_agreement) == (1.0, 1.0)


def test_kl_is_of_the_output_that_labels_are_of() -> None:
    boxes = [np.full((1, 4), index, np.float32) for index in range(4)]
    made = object.__new__(Reference)
    made.outputs, made.names, made.metric = [list(pair) for pair in zip(boxes, OUTPUTS, strict=True)], ["boxes", "y"], None
    for labels, wanted in ((np.array([output.argmax() for output in OUTPUTS]), None), (None, "y")):
        made.labels = labels
        made.chosen = class_output.find(made.outputs, made.names, labels, wanted)
        arrays = [array for pair in zip(boxes, [1.5 * output for output in OUTPUTS], strict=True) for array in pair]
        found = made.compare("board", CASE, packed(*arrays)).fidelity
        assert (found.top1_agreement, found.top1_accuracy) == (1.0, 1.0 if wanted is None else None)
        assert found.kl_divergence is not None
        assert found.kl_divergence > 0.01
    made.chosen = class_output.Choice()
    assert made.compare("board", CASE, packed(*arrays)).fidelity.kl_divergence == 0.0
