"""Labels are held against the output that they are of, however it is shaped; where none suits, the reason is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.quantize.verify import class_output
from harness.quantize.verify.class_output import ClassOutput, find

RNG = np.random.default_rng(5)
SCORES = RNG.normal(size=(20, 10)).astype(np.float32)
LABELS = SCORES.argmax(axis=1)
LOGITS = np.concatenate([SCORES[:, 0], [-2, 2]])[:20].astype(np.float32)


def feeds(*outputs: Any, rows: int = 1) -> list[list[Any]]:
    """Cut whole outputs, [20, …], into feeds."""
    return [[output[start : start + rows] for output in outputs] for start in range(0, 20, rows)]


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("shape", [(20, 10), (20, 10, 1, 1), (20, 1, 1, 10), (20, 1, 10)])
def test_tables(shape: tuple[int, ...], rows: int) -> None:
    outputs = feeds(SCORES.reshape(shape), rows=rows)
    choice = find(outputs, ["y"], LABELS)
    assert choice.output == ClassOutput("y", "scores", classes=10, rows=rows)
    assert (choice.note is None) == (len(shape) == 2)
    assert class_output.accuracy(choice.output, [feed[0] for feed in outputs], LABELS) == 1.0


def test_a_single_row_without_an_axis_of_its_own() -> None:
    outputs = [[row] for row in SCORES]
    choice = find(outputs, ["y"], LABELS)
    assert choice.output is not None
    assert class_output.accuracy(choice.output, [feed[0] for feed in outputs], LABELS) == 1.0


@pytest.mark.parametrize("shape", [(20,), (20, 1), (20, 1, 1)])
def test_one_logit_for_each_row(shape: tuple[int, ...]) -> None:
    outputs = feeds(LOGITS.reshape(shape), rows=4)
    labels = (LOGITS > 0).astype(np.int64)
    choice = find(outputs, ["y"], labels)
    assert choice.output is not None
    assert (choice.output.kind, choice.output.threshold) == ("score", 0.0)
    assert "a logit: above 0 is class 1" in (choice.note or "")
    assert class_output.accuracy(choice.output, [feed[0] for feed in outputs], labels) == 1.0


def test_one_probability_for_each_row() -> None:
    probabilities = 1 / (1 + np.exp(-LOGITS))[:, None]
    choice = find(feeds(probabilities), ["y"], (LOGITS > 0).astype(np.int64))
    assert choice.output is not None
    assert choice.output.threshold == 0.5
    assert "a probability" in (choice.note or "")


def test_one_score_tells_no_more_than_two_classes() -> None:
    choice = find(feeds(LOGITS[:, None]), ["y"], LABELS)
    assert choice.output is None
    assert "'y' float32 [1, 1]" in (choice.note or "")
    assert "the labels lie in" in (choice.note or "")


def test_integers_are_the_classes() -> None:
    outputs = feeds(LABELS)
    choice = find(outputs, ["label"], LABELS)
    assert choice.output is not None
    assert choice.output.kind == "class"
    assert class_output.accuracy(choice.output, [feed[0] for feed in outputs], LABELS) == 1.0


def test_of_several_outputs_the_one_with_as_many_classes_as_the_labels_name() -> None:
    boxes, features = RNG.normal(size=(20, 4)), RNG.normal(size=(20, 64))
    choice = find(feeds(boxes, features, LABELS, SCORES), ["boxes", "features", "ids", "scores"], LABELS)
    assert choice.output is not None
    assert choice.output.name == "scores"
    assert "output 'scores'" in (choice.note or "")
    assert "[model] output" in (choice.note or "")


def test_the_study_chooses() -> None:
    other = -SCORES
    choice = find(feeds(SCORES, other), ["a", "b"], LABELS, "b")
    assert choice.output is not None
    assert choice.output.name == "b"


def test_an_output_that_the_study_names_and_that_does_not_suit() -> None:
    choice = find(feeds(SCORES, RNG.normal(size=(20, 3, 5))), ["a", "b"], LABELS, "b")
    assert choice.output is None
    assert "'b' float64 [1, 3, 5]" in (choice.note or "")
    assert "'a'" not in (choice.note or "")


@pytest.mark.parametrize("output", [RNG.normal(size=(20, 7, 10)), RNG.normal(size=(20, 1, 28, 28)), np.array([["a"]] * 20)])
def test_outputs_that_tell_no_class_are_named(output: Any) -> None:
    choice = find(feeds(output), ["y"], LABELS)
    assert choice.output is None
    assert "'y'" in (choice.note or "")
    assert "not used" in (choice.note or "")


def test_rows_of_nan_are_never_right_and_agree_with_nothing() -> None:
    broken = SCORES.copy()
    broken[:5] = np.nan
    of = ClassOutput("y", "scores")
    assert class_output.accuracy(of, [broken], LABELS) == 0.75
    assert class_output.agreement(of, [SCORES], [broken]) == 0.75
    assert class_output.agreement(of, [broken], [SCORES]) == 1.0
    assert class_output.agreement(of, [broken[:5]], [SCORES[:5]]) is None
