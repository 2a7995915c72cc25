from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from harness.quantize.data import lint
from harness.quantize.data.dims import resolve_dims
from harness.quantize.data.load import Samples
from harness.quantize.data_review import review
from harness.quantize.matrix import plan
from harness.quantize.model.model import open_model
from harness.study import study
from harness.workflow import preflight
from tests.conftest import DIGITS
from tests.models import images

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.study.study import Study

ROWS = 64


def data(rows: np.ndarray, labels: list[int] | None = None, **others: np.ndarray) -> Samples:
    feeds = tuple({"x": row[None], **others} for row in rows)
    return Samples(feeds, None if labels is None else np.array(labels), "somewhere")


def said(rows: np.ndarray, judged: np.ndarray | None) -> str:
    return "\n".join(lint.calibration(lint.Side("the data", data(rows)), None if judged is None else data(judged)))


def normal(seed: int = 1, rows: int = ROWS) -> np.ndarray:
    return images(rows, seed=seed)


def uniform(low: float, high: float, rows: int = ROWS) -> np.ndarray:
    return np.random.default_rng(0).uniform(low, high, (rows, 1, 8, 8)).astype(np.float32)


def test_an_input_that_is_empty_in_every_sample() -> None:
    empty, full = (data(normal(), past=np.ones((1, size), np.float32)) for size in (0, 3))
    side = lint.Side("the data", empty)
    assert "'past' is empty in every sample" in "\n".join(lint.calibration(side, full))
    assert "'past' is empty in every sample" in "\n".join(lint.calibration(side, None))
    assert "'past'" not in "\n".join(lint.calibration(side, empty))
    assert "'past' is empty" not in "\n".join(lint.calibration(lint.Side("the data", full), empty))


@pytest.mark.parametrize(
    ("rows", "judged"),
    [
        (normal(), normal(2)),
        (normal(rows=8), normal(2)),
        (normal() * 2, normal(2)),  # a little wider
        (normal() * 0.7, normal(2)),  # a little narrower
        (uniform(0, 1), uniform(0, 0.9)),
        (uniform(5, 255), uniform(0, 255)),
        (np.abs(normal()), np.abs(normal(2))),
        (normal(), None),
    ],
)
def test_good_data_are_left_alone(rows: np.ndarray, judged: np.ndarray | None) -> None:
    assert said(rows, judged) == ""


def test_values_beyond_the_calibrated_range() -> None:
    text = said(uniform(0, 1), normal(2))
    assert text.startswith("the data: 'x' lies in 0.")
    assert "; in the evaluation data it lies in -" in text
    assert "(mean 0.496, standard deviation 0.288)" in text
    assert "66 % of these values lie outside" in text
    assert "static variants cut them off; values of 0 to 1 look like pixels that were not normalised" in text
    assert "from 97 % to 15 %" in text
    assert text.endswith("prepare both the same way")


def test_values_of_bytes_for_values_up_to_one() -> None:
    text = said(uniform(0, 255), uniform(0, 1))
    assert "255 times as wide, so that 1 of the 256 steps of 8 bits" in text
    assert "values of 0 to 255 look like pixels that were not scaled" in text


def test_bytes_for_normalised_values() -> None:
    assert "values of 0 to 255 look like pixels that were not normalised" in said(uniform(0, 255), normal())


def test_one_outlier_stretches_the_range() -> None:
    rows = normal()
    rows[3, 0, 0, 0] = 1000
    text = said(rows, normal(2))
    assert "times as wide" in text
    assert "remove outliers" in text


def test_zeros() -> None:
    text = said(np.zeros((ROWS, 1, 8, 8), np.float32), normal())
    assert text.startswith("the data: every value of 'x' is 0; in the evaluation data it lies in -")
    assert "99.7 % to 52 %" in text
    assert len(text.splitlines()) == 1
    assert "every value of 'x' is 0: static variants get no range" in said(np.zeros((ROWS, 1, 8, 8), np.float32), None)


def test_a_setting_may_be_constant() -> None:
    rate: dict[str, Any] = {"rate": np.array(16000), "mask": np.ones((1, 4), np.int64), "gain": np.ones(1, np.float32)}
    given, judged = data(normal(), **rate), data(normal(2), **rate)
    assert lint.calibration(lint.Side("c", given), judged) == ()
    assert lint.calibration(lint.Side("c", given), None) == ()
    other = data(normal(2), **{**rate, "rate": np.array(8000)})
    (text,) = lint.calibration(lint.Side("c", given), other)
    assert "every value of 'rate' is 16000; in the evaluation data it is always 8000" in text


@pytest.mark.parametrize(("count", "words"), [(1, "only 1 sample: "), (7, "only 7 samples: ")])
def test_few_samples(count: int, words: str) -> None:
    text = said(normal(rows=count), normal(2))
    assert words in text
    assert "give 64 or more" in text


def test_rows_count_not_feeds() -> None:
    feeds = tuple({"x": rows} for rows in images(8).reshape(2, 4, 1, 8, 8))
    assert lint.calibration(lint.Side("c", Samples(feeds, None, "")), None) == ()


def test_samples_that_are_the_same() -> None:
    same = np.repeat(normal(rows=1), 16, axis=0)
    assert "16 samples, and all of them are the same: they count as 1" in said(same, None)
    twice = np.concatenate([normal(rows=8)] * 4)
    assert "32 samples, and only 8 of them are different" in said(twice, None)
    assert said(np.concatenate([normal(rows=12), normal(rows=8)]), None) == ""


def test_calibration_with_evaluation_data() -> None:
    assert "all 64 samples are evaluation samples, too" in said(normal(), normal())
    mixed = np.concatenate([normal(2)[:3], normal(3)])
    assert "3 of 67 samples are evaluation samples, too" in said(mixed, normal(2))


def test_random_evaluation_data_are_no_measure() -> None:
    judged = Samples(data(normal()).feeds, None, "random", random=True)
    assert lint.calibration(lint.Side("c", data(uniform(0, 255))), judged) == ()


def test_integers_are_compared_by_range_only() -> None:
    def tokens(high: int) -> Samples:
        ids = np.random.default_rng(0).integers(0, high, (ROWS, 32))
        return Samples(tuple({"ids": row[None]} for row in ids), None, "")

    assert lint.calibration(lint.Side("c", tokens(30522)), tokens(1000)) == ()
    (text,) = lint.calibration(lint.Side("c", tokens(2)), tokens(30522))
    assert "'ids' lies in 0 … 1 " in text
    assert "100 % of these values lie outside: what they lead to in the model was not seen in calibration" in text


def test_a_mask_that_is_always_full() -> None:
    def masked(fill: int) -> Samples:
        mask = np.random.default_rng(0).integers(fill, 2, (ROWS, 32))
        return Samples(tuple({"x": x[None], "mask": row[None]} for x, row in zip(normal(fill), mask, strict=True)), None, "")

    (text,) = lint.calibration(lint.Side("c", masked(1)), masked(0))
    assert "every value of 'mask' is 1; in the evaluation data it lies in 0 … 1 " in text
    assert "not seen in calibration; calibrate with real samples" in text
    assert "no range" not in text


def test_numbers_that_are_none_in_evaluation_data(cnn: Path) -> None:
    rows = normal(rows=4)
    rows[2, 0, 1] = np.nan
    (text,) = lint.evaluation(data(rows), open_model(cnn))
    assert "'x' of sample 2 holds NaN or infinity (8 values in all): MSE and SQNR over them mean nothing" in text


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, 1, 2, 2], ""),
        (
            [1, 2, 3, 3],
            "2 of 4 labels are not among the model's 3 classes, 0 to 2 (they seem to be counted from 1); the first is 3, of row 2",
        ),
        ([0, -1, 2, 1], "1 of 4 labels are not among the model's 3 classes, 0 to 2; the first is -1, of row 1"),
    ],
)
def test_labels_and_classes(cnn: Path, labels: list[int], words: str) -> None:
    found = "".join(lint.evaluation(data(normal(rows=4), labels), open_model(cnn)))
    assert words in found
    assert bool(words) == bool(found)


@pytest.mark.parametrize(
    ("accuracy", "rows", "classes", "warns"),
    [
        (0.1, 360, 10, True),
        (0.0, 360, 1000, True),
        (0.2, 360, 10, False),
        (0.7, 100, 2, False),
        (0.0, 20, 10, False),
        (None, 360, 10, False),
        (0.0, 360, None, False),
    ],
)
def test_accuracy_of_guessing(accuracy: float | None, rows: int, classes: int | None, warns: bool) -> None:
    found = lint.guessing(accuracy, rows, classes)
    assert bool(found) == warns
    assert all("no better than guessing among" in text for text in found)


def test_the_shipped_study_is_clean_and_its_bad_sister_is_not() -> None:
    def look(path: Path) -> tuple[str, ...]:
        asked = study.load(path)
        model = open_model(asked.model.path)
        return review(asked, model, resolve_dims(model, asked.model.dims)[0], plan(asked))

    assert look(DIGITS) == ()
    warned = {text.split(":")[0].removeprefix("the calibration data of ") for text in look(DIGITS / "calibration.toml")}
    assert warned == {"noise-0-to-0.1", "normal-noise", "noise-0-to-255", "zeros"}


class TestStudies:
    @pytest.fixture
    def ask(self, write_study: Callable[[str], Study], tmp_path: Path) -> Callable[..., tuple[str, ...]]:
        def ask(more: str = "", **evaluation: Any) -> tuple[str, ...]:
            np.savez(tmp_path / "calibration.npz", x=normal())
            if evaluation:
                np.savez(tmp_path / "evaluation.npz", **evaluation)
                more = f'evaluation = "evaluation.npz"\n{more}'
            return preflight.check_inputs(write_study(more)).warnings

        return ask

    def test_nothing_to_say(self, ask: Callable[..., tuple[str, ...]]) -> None:
        assert ask() == ()
        assert ask(x=normal(2)) == ()

    def test_what_is_seen_reaches_the_run(self, ask: Callable[..., tuple[str, ...]]) -> None:
        (text,) = ask(x=normal(2) * 100)
        assert text.startswith("the calibration data: 'x' lies in ")

    def test_data_of_one_variant(self, ask: Callable[..., tuple[str, ...]]) -> None:
        more = '[[variant]]\nname = "odd"\nmethod = "static"\ncalibration_data = "random:zeros"\n'
        (text,) = ask(more, x=normal(2))
        assert text.startswith("the calibration data of odd: every value of 'x' is 0")

    def test_labels_of_another_model(self, ask: Callable[..., tuple[str, ...]]) -> None:
        found = ask('[variants]\nmethods = ["dynamic"]\n', x=normal(2), labels=np.full(ROWS, 3))
        assert len(found) == 2
        assert "64 of 64 labels are not among the model's 3 classes" in found[0]
        assert "fp32 itself gets 0.0 % of the evaluation data right" in found[1]

    def test_bad_evaluation_data_do_not_stop_making(self, write_study: Callable[[str], Study], tmp_path: Path) -> None:
        (tmp_path / "evaluation.npz").write_bytes(b"broken")
        asked = write_study('evaluation = "evaluation.npz"\n')
        model = open_model(asked.model.path)
        found = review(asked, model, {"batch": 1}, plan(asked))
        assert "could not be compared with the evaluation data" in found[0]
