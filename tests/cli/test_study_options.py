"""Options that several commands share."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import typer

from harness.cli import command
from harness.cli.study_options import LimitOptions, ModelOptions, StudyOptions, duration
from harness.errors import Exit, UsageError


def test_a_group_stands_for_its_options_in_its_place() -> None:
    seen: list[object] = []

    def measure(*, first: str = "a", limits: LimitOptions, last: str = "z") -> Exit:
        seen.extend([first, limits, last])
        return Exit.PASSED

    made = command.command(measure)
    assert list(inspect.signature(made).parameters) == ["first", "rounds", "max_time", "wait", "last"]
    with pytest.raises(typer.Exit) as ended:
        made(first="a", rounds=3, max_time="5m", wait=None, last="z")
    assert ended.value.exit_code == Exit.PASSED
    assert seen == ["a", LimitOptions(rounds=3, max_time="5m"), "z"]


def test_options_for_a_bare_model_do_not_go_with_a_study(tmp_path: Path) -> None:
    asked = StudyOptions(target=tmp_path, dim=["batch=1"], output="scores")
    with pytest.raises(UsageError, match="--dim, --output: only for a bare model"):
        asked.study()


def test_a_method_that_is_none_is_named() -> None:
    with pytest.raises(UsageError, match="--variants: there is no method 'int4'"):
        ModelOptions(target=Path("model.onnx"), variants="int4").study()


def test_the_command_line_s_methods_win() -> None:
    options = ModelOptions(target=Path("model.onnx"), variants="fp16", dim=["batch=1,8"])
    study = options.study(methods="given")
    assert (study.variants.methods, study.model.dims) == (["fp16"], {"batch": [1, 8]})
    assert ModelOptions(target=Path("model.onnx")).study(methods="given").variants.methods == ["given"]


def test_limits_replace_those_of_the_study() -> None:
    study = ModelOptions(target=Path("model.onnx")).study()
    limited = LimitOptions(rounds=7, max_time="2m", wait="90s").apply(study).measure
    assert (limited.rounds, limited.max_time, limited.wait) == (7, 120, 90)
    assert LimitOptions().apply(study) == study
    with pytest.raises(UsageError, match=r"--wait: "):
        LimitOptions(wait="soon").apply(study)
    assert duration("1m", "--time") == 60
