"""A study on two virtual ARM boards beside this machine. Needs the image: 'make test-boards' builds it once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.boards.conftest import CORES, Bench, rows
from tests.conftest import DIGITS
from tests.models import conv_chain

if TYPE_CHECKING:
    from typing import Any

pytestmark = [pytest.mark.boards, pytest.mark.slow]


@pytest.fixture(scope="module")
def content(bench: Bench) -> dict[str, Any]:
    """The digits study's content on this machine and both boards; times only to be seen."""
    return bench.measure(str(DIGITS), "--device", "local", "--device", "@arm64", "--rounds", "3")


def test_the_boards_are_what_they_are_called(content: dict[str, Any]) -> None:
    facts = {device["device"]: device["facts"] for device in content["devices"]}
    assert {facts[name]["arch"] for name in CORES} == {"aarch64"}
    assert "asimddp" not in facts["a53"]["features"]
    assert "asimddp" in facts["a76"]["features"]


def test_no_time_is_told(content: dict[str, Any]) -> None:
    found = rows(content)
    for name in CORES:
        for row in found[name].values():
            times = {key: value for key, value in row.items() if "_ms" in key or key.startswith("speedup")}
            assert "median_ms" in times
            assert set(times.values()) == {None}
    assert found["local"]["fp32"]["median_ms"] is not None


def test_both_formats_run_the_same_kernels(content: dict[str, Any]) -> None:
    found = rows(content)
    for name in CORES:
        for types in ("S8S8", "U8S8", "U8U8"):
            counts = [found[name][f"static-{form}-{types}"] for form in ("QDQ", "QOperator")]
            assert counts[0]["instructions_millions"] == pytest.approx(counts[1]["instructions_millions"], rel=1e-3)
            assert all(count["instructions_spread"] < 1e-3 for count in counts)


def test_signed_int8_takes_a_fifth_less_without_dot_products(content: dict[str, Any]) -> None:
    a53 = rows(content)["a53"]
    ratio = a53["static-QDQ-S8S8"]["instructions_millions"] / a53["static-QDQ-U8U8"]["instructions_millions"]
    assert 0.7 < ratio < 0.85


def test_outputs_are_those_of_this_machine(content: dict[str, Any]) -> None:
    found = rows(content)
    for name in CORES:
        for case, row in found[name].items():
            if row["state"] == "measured":
                assert row["top1_agreement"] == 1.0, case
                # fp16 is computed in half precision on the A76, and only stored in it elsewhere.
                near = 20 if case == "fp16" else 10
                assert row["sqnr_db"] == pytest.approx(found["local"][case]["sqnr_db"] or 140, abs=near), case


def test_two_runs_of_one_model_agree(bench: Bench) -> None:
    case = "static-QDQ-U8S8"
    first, second = (
        rows(bench.measure(str(DIGITS), "--device", "a53", "--variant", case))["a53"][case]["instructions_millions"]
        for _ in range(2)
    )
    assert first == pytest.approx(second, rel=1e-3)


def test_a_gate_on_instructions(bench: Bench) -> None:
    for layers, name in ((3, "base"), (4, "more")):
        conv_chain(bench.folder / f"{name}.onnx", layers)
    words = ["--baseline", "base.onnx", "--device", "a53", "--metric", "instructions", "--max-regression", "0.02", "--json"]
    same = json.loads(bench.run("check", "base.onnx", *words))
    check, outputs = same["devices"][0]["checks"]
    assert (check["metric"], check["verdict"]) == ("instructions", "passed")
    assert (outputs["metric"], outputs["verdict"]) == ("outputs", "passed")
    more = json.loads(bench.run("check", "more.onnx", *words, code=1))
    check, *_ = more["devices"][0]["checks"]
    assert check["confirmed"] > 1.2
    # A gate on latency alone can't be had there, and is refused before anything is measured.
    bench.run("check", "base.onnx", *words[:4], code=2)
