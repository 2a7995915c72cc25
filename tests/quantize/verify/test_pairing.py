from __future__ import annotations

import numpy as np
import pytest

from harness.quantize.verify.pairing import batch_of, pair


@pytest.mark.parametrize(
    ("shapes", "batch"),
    [
        ({"x": (8, 3, 32, 32)}, 8),
        ({"ids": (2, 16), "mask": (2, 16)}, 2),
        ({"x": (8, 3, 32, 32), "size": (1, 2)}, None),
        ({"x": (8, 16), "rate": (1,), "scalar": ()}, 8),
        ({"x": (512,)}, None),
    ],
)
def test_the_batch_is_the_leading_size_of_the_inputs(shapes: dict[str, tuple[int, ...]], batch: int | None) -> None:
    assert batch_of({name: np.zeros(shape) for name, shape in shapes.items()}) == batch


@pytest.mark.parametrize(
    ("shapes", "batch", "expected"),
    [
        ([(8, 10)], 8, [True]),
        ([(300, 6), (1,)], 1, [False, True]),
        ([(8, 10), (2, 8, 64)], 8, [True, False]),
        ([(8, 10), (2, 8, 64)], None, [False, False]),
        ([(8, 10), (8, 4), ()], None, [True, True, False]),
        ([(10,)], None, [False]),
    ],
)
def test_an_output_has_the_batch_first_or_is_one_sample(
    shapes: list[tuple[int, ...]], batch: int | None, expected: list[bool]
) -> None:
    outputs = [np.zeros(shape) for shape in shapes]
    assert [output.batched for output in pair([outputs], [outputs], batch=batch)] == expected


def test_an_output_whose_size_depends_on_the_data_is_not_batched_by_chance() -> None:
    """One detection in one feed, five in another: the first axis is not the batch of 1."""
    feeds = [[np.zeros((count, 6))] for count in (1, 5)]
    assert not pair(feeds, feeds, batch=1)[0].batched


def test_samples_are_numbered_over_all_feeds() -> None:
    feeds = [{"rows": np.zeros((4, 3)), "whole": np.zeros((7, 3))} for _ in range(3)]
    rows, whole = pair(feeds, feeds, batch=4)
    assert (rows.name, whole.name) == ("rows", "whole")
    assert [rows.sample(position) for position in range(12)] == list(range(12))
    assert [whole.sample(position) for position in range(3)] == [0, 4, 8]
    assert [ref.shape for ref, _ in whole.samples()] == [(3, 7, 3)]


def test_names_come_from_the_caller_where_outputs_come_in_order() -> None:
    outputs = [np.zeros((2, 3)), np.zeros(())]
    assert [output.name for output in pair([outputs], [outputs], ["logits", "loss"])] == ["logits", "loss"]
    assert [output.name for output in pair([outputs], [outputs])] == ["output 0", "output 1"]
