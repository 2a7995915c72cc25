from __future__ import annotations

import math

import pytest

from harness.quantize.verify.parts import Part, in_db, name_of, runs_of, sentence_of


def dead(*runs: tuple[int, int], noun: str = "row", fixed: bool = False) -> list[Part]:
    return [Part("y", axis=1, first=a, last=b, kind="slice", dead=True, noun=noun, fixed=fixed) for a, b in runs]


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        (dead((4, 9)), "rows 4–9 of y are constant in this variant but vary in fp32"),
        (dead((4, 4)), "row 4 of y is constant in this variant but varies in fp32"),
        (dead((4, 4), (7, 8)), "rows 4 and 7–8 of y are constant in this variant but vary in fp32"),
        (dead((2, 2), noun="entry"), "entry 2 along axis 1 of y is constant in this variant but varies in fp32"),
        (dead((2, 3), noun="entry"), "entries 2–3 along axis 1 of y are constant in this variant but vary in fp32"),
        (dead((0, 3), fixed=True), "rows 0–3 of y are the same for all samples in this variant but vary in fp32"),
        ([Part("y", dead=True)], "y is constant in this variant but varies in fp32"),
        ([Part("y", dead=True), Part("z", dead=True)], "y and z are constant in this variant but vary in fp32"),
        ([Part("y", sample=3, kind="sample", sqnr_db=9.96)], "sample 3 of y has an SQNR of 10.0 dB"),
        (
            [Part("y", axis=1, first=5, last=5, kind="slice", noun="channel", sqnr_db=-1.0)],
            "channel 5 of y has an SQNR of -1.0 dB",
        ),
    ],
)
def test_sentences(parts: list[Part], sentence: str) -> None:
    assert sentence_of(parts) == sentence
    if len(parts) == 1:
        assert parts[0].sentence == sentence


def test_the_reference_may_be_another_model() -> None:
    assert sentence_of([Part("y", dead=True)], "v1.2") == "y is constant in this variant but varies in v1.2"


def test_many_are_counted() -> None:
    assert name_of(dead(*((n, n) for n in range(0, 16, 2)))) == "rows 0, 2, 4, 6, 8, 10 and 2 more runs of y"
    caches = [Part(f"cache{n}", dead=True) for n in range(48)]
    assert name_of(caches) == "cache0, cache1, cache2, cache3, cache4, cache5 and 42 more outputs"
    assert name_of(caches[:7]).endswith("cache5 and 1 more output")


@pytest.mark.parametrize(
    ("value", "text"), [(35.44, "35.4 dB"), (-0.01, "0.0 dB"), (math.inf, "infinite"), (-math.inf, "-infinite")]
)
def test_decibels(value: float, text: str) -> None:
    assert in_db(value) == text


@pytest.mark.parametrize(
    ("indices", "runs"), [([], []), ([3], [(3, 3)]), ([4, 5, 6, 9], [(4, 6), (9, 9)]), ([0, 2], [(0, 0), (2, 2)])]
)
def test_runs(indices: list[int], runs: list[tuple[int, int]]) -> None:
    assert runs_of(indices) == runs
