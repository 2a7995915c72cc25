from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from harness.errors import DataError
from harness.quantize.metric import Metric, load

FEED = [{"y": np.array([[1.0, 2.0]], np.float32)}]


def measured(function: Any) -> dict[str, float]:
    return Metric("mine:rate", function)(FEED, FEED, None)


def test_a_callable_of_the_working_folder(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_metric_found.py").write_text(
        "def rate(outputs, reference, labels):\n    return sum(float((o['y'] - r['y']).sum()) for o, r in zip(outputs, reference)) + labels.sum()\n"
    )
    monkeypatch.chdir(tmp_path)
    metric = load("own_metric_found:rate")
    other = [{"y": np.array([[1.5, 2.0]], np.float32)}]
    assert metric(other, FEED, np.array([3])) == {"rate": 3.5}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (1, {"rate": 1.0}),
        (np.float32(0.5), {"rate": 0.5}),
        (np.array(2), {"rate": 2.0}),
        ({"words": 1.0, "letters": True}, {"words": 1.0, "letters": 1.0}),
    ],
)
def test_one_figure_or_several(given: Any, found: dict[str, float]) -> None:
    assert measured(lambda *_: given) == found


@pytest.mark.parametrize("given", [None, "0.5", float("nan"), np.ones(2), {}, {"a": float("inf")}, {"a": [1]}, 1j])
def test_anything_else_is_refused_by_name(given: Any) -> None:
    with pytest.raises(DataError, match=r"^model\.metric: mine:rate: gave "):
        measured(lambda *_: given)


def test_its_exception_is_told_by_name() -> None:
    with pytest.raises(DataError, match=re.escape("model.metric: mine:rate: raised KeyError: 'z'")):
        measured(lambda outputs, *_: outputs[0]["z"])


def test_it_can_not_change_what_others_compare() -> None:
    def greedy(outputs: Any, *_: Any) -> float:
        outputs[0]["y"] += 1
        return 1.0

    with pytest.raises(DataError, match="read-only"):
        measured(greedy)
    assert FEED[0]["y"].tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("no_such_module_at_all:rate", "module 'no_such_module_at_all' can't be imported: ModuleNotFoundError"),
        ("json:no_such", "has no callable 'no_such'"),
    ],
)
def test_what_can_not_be_found(source: str, said: str) -> None:
    with pytest.raises(DataError, match=re.escape(source)) as caught:
        load(source)
    assert said in str(caught.value)
