from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from harness.errors import StudyError
from harness.quantize.recipe import Recipe
from harness.study import study
from harness.study.claims_and_gate import ALL_METRICS, ClaimSection, GateSection
from harness.study.specs import choices


def claim(**said: object) -> ClaimSection:
    return ClaimSection.model_validate({"text": "so it is", **said})


@pytest.mark.parametrize("trait", list(Recipe.model_fields))
def test_claims_speak_of_what_recipes_have(trait: str) -> None:
    value = next(iter(choices(trait)), "any")
    assert claim(faster={trait: value}, than={"method": "fp32"}).faster == {trait: value}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "exactly one of"),
        ({"faster": {"format": "QDQ"}, "smaller": {"format": "QDQ"}, "than": {}}, "exactly one of"),
        ({"faster": {"format": "QDQ"}}, "needs 'than'"),
        ({"faster": {"fromat": "QDQ"}, "than": {}}, "did you mean 'format'?"),
        ({"fails": {"method": "dynamic"}, "than": {}}, "can't be combined with 'than'"),
        ({"faster": {}, "than": {}, "by": 2, "between": [1, 2]}, "can't be combined with 'by'"),
        ({"faster": {}, "than": {}, "between": [2, 1]}, "LOW < HIGH"),
        ({"same_speed": {}, "than": {}, "by": 0.9}, "above 1"),
        ({"faster": {}, "than": {}, "on": {"cpu": "x"}}, "'on' has no key 'cpu'"),
        ({"faster": {}, "than": {}, "metric": "sqnr"}, "is judged by latency or instructions, not by sqnr"),
        ({"loads": {}, "metric": "latency"}, "is judged by no metric"),
        ({"loads": {"method": "fp33"}}, "did you mean 'fp32'?"),
        ({"loads": {"format": ["QDQ", "QD"]}}, "format can't be 'QD'"),
        ({"faster": {}, "than": {}, "by": 0.9}, "a ratio of 1 or more"),
        ({"faster": {}, "than": {}, "on": {"emulated": "maybe"}}, "on.emulated can't be 'maybe'"),
        ({"faster": {}, "than": {}, "on": {"runtime": "newest"}}, "not 'newest'"),
    ],
)
def test_a_claim_that_says_nothing_clear_is_refused(said: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match="Value error") as caught:
        claim(**said)
    assert words in str(caught.value)


def test_bounds() -> None:
    sides = {"than": {"format": "QOperator"}}
    assert claim(faster={"format": "QDQ"}, **sides).bounds == (1.0, None)
    assert claim(faster={"format": "QDQ"}, by=2, **sides).bounds == (2.0, None)
    assert claim(faster={"format": "QDQ"}, between=[1.2, 2], **sides).bounds == (1.2, 2.0)
    low, high = claim(same_speed={"format": "QDQ"}, **sides).bounds
    assert low is not None
    assert high is not None
    assert low * high == pytest.approx(1)
    assert claim(more_accurate={"format": "QDQ"}, **sides).bounds == (0.0, None)
    assert claim(faster={"format": "QDQ"}, metric="instructions", **sides).bounds == (1.001, None)


def test_a_gate_takes_one_metric_or_several() -> None:
    assert GateSection().metrics == ("latency.median", "outputs")
    gate = GateSection.model_validate(
        {"metric": "size", "limit": [{"metric": "accuracy", "max_regression": 0}, {"metric": "size", "max_regression": 0.1}]}
    )
    assert gate.metrics == ("size", "accuracy", "outputs")
    assert set(gate.metrics) <= set(ALL_METRICS)


def test_a_slowdown_that_memory_placement_gives_can_not_be_a_limit() -> None:
    with pytest.raises(ValidationError, match=r"latency\.p99: max_regression = 0\.005 is below 0\.01"):
        GateSection.model_validate({"limit": [{"metric": "latency.p99", "max_regression": 0.005}]})


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ({"metric": "sqnr", "max_regression": 0.1}, "the limit of sqnr must be given as max_drop_db"),
        ({"metric": "sqnr"}, "the limit of sqnr must be given as max_drop_db"),
        ({"metric": "size", "max_drop_db": 1.0}, "the limit of size must be given as max_regression"),
        ({"metric": "size"}, "the limit of size must be given as max_regression"),
        ({"metric": "sqnr", "max_drop_db": -1.0}, "0 or more, not -1"),
        ({"metric": "outputs", "max_regression": 0.1}, "the metric outputs has no limit"),
    ],
)
def test_each_metric_has_its_own_kind_of_limit(limit: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        GateSection.model_validate({"limit": [limit]})


def test_sqnr_is_no_share() -> None:
    with pytest.raises(ValidationError, match="give max_drop_db"):
        GateSection.model_validate({"metric": "sqnr", "max_regression": 0.1})
    gate = GateSection.model_validate({"metric": ["sqnr", "size"], "max_regression": 0.1, "max_drop_db": 3.0})
    assert [gate.allowed(metric) for metric in gate.metrics] == [3.0, 0.1, 0.0]
    # As run.json keeps it, with every key.
    alone = GateSection(metric=["sqnr"])
    assert GateSection.model_validate(alone.model_dump()) == alone


def test_the_outputs_are_looked_at_unless_a_gate_says_otherwise() -> None:
    assert GateSection(check_outputs=False).metrics == ("latency.median",)
    only = GateSection(metric=["outputs"], check_outputs=False)
    assert (only.metrics, only.only_outputs) == (("outputs",), True)


def test_per_cent_are_no_shares() -> None:
    with pytest.raises(ValidationError, match=r"below 1, such as 0\.05 for 5 %, not 5; 5 % is 0\.05"):
        GateSection(max_regression=5)


@pytest.mark.parametrize("runtime", ["1.23.2", "<1.24.1", ">=1.24,<1.26", "==1.31.1", "~=1.31"])
def test_runtimes_that_a_claim_can_be_about(runtime: str) -> None:
    assert claim(loads={}, on={"runtime": runtime}).on == {"runtime": runtime}


def test_faults_name_the_line(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(
        'name = "x"\n[model]\npath = "m.onnx"\n\n[[claim]]\ntext = "a"\nloads = { method = "fp16" }\n\n'
        '[[claim]]\ntext = "b"\nfaster = { methd = "fp16" }\nthan = { method = "fp32" }\n\n[gate]\nmetrik = "size"\n'
    )
    with pytest.raises(StudyError) as caught:
        study.load(path)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"{path}:11: ")
    assert "did you mean 'method'?" in lines[0]
    assert lines[1] == f"{path}:15: unknown key 'gate.metrik'; did you mean 'metric'?"
