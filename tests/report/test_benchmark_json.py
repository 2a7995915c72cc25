from __future__ import annotations

import json
import statistics
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.devices.device import Device
from harness.judge.judgement import Judgement
from harness.records.run import DeviceRecord
from harness.report import benchmark_json
from tests.report import runs

# The fields that pytest-benchmark's Metadata.as_dict() and Stats.fields have.
BENCHMARK = {"group", "name", "fullname", "params", "param", "extra_info", "options", "stats"}
STATS = {
    "min", "max", "mean", "stddev", "rounds", "median", "iqr", "q1", "q3", "iqr_outliers", "stddev_outliers", "outliers", "ld15iqr",
    "hd15iqr", "ops", "total", "data", "iterations",
}  # fmt: skip


def refuse(constant: str) -> None:
    """NaN and Infinity are no JSON."""
    raise AssertionError(constant)


def read(summary: Judgement) -> dict[str, Any]:
    """The file as another program reads it."""
    found: dict[str, Any] = json.loads(benchmark_json.render(summary), parse_constant=refuse)
    return found


def test_the_format_is_pytest_benchmarks(simple: Judgement) -> None:
    found = read(simple)
    assert set(found) == {"machine_info", "commit_info", "benchmarks", "datetime", "version"}
    assert found["version"].startswith("5.")
    assert datetime.fromisoformat(found["datetime"]) == simple.run.started.replace(tzinfo=None)
    assert set(found["commit_info"]) == {"id", "time", "author_time", "dirty", "project", "branch"}
    for bench in found["benchmarks"]:
        assert set(bench) == BENCHMARK
        assert set(bench["stats"]) == STATS
    machine = found["machine_info"]
    assert (machine["node"], machine["machine"], machine["python_version"]) == ("rpi4", "aarch64", "3.12.1")
    assert machine["cpu"]["brand_raw"].startswith("Cortex")
    assert machine["cpu"]["count"] == 4


def test_stats_are_in_seconds_over_one_value_per_round(simple: Judgement) -> None:
    bench = read(simple)["benchmarks"][0]
    stats = bench["stats"]
    assert (bench["group"], bench["name"], bench["fullname"]) == ("digits.rpi4", "fp32", "digits.rpi4::fp32")
    assert stats["data"] == pytest.approx([0.002, 0.0022, 0.0019, 0.0021, 0.002])
    assert (stats["rounds"], stats["iterations"]) == (5, 101)
    assert stats["mean"] == pytest.approx(0.00204)
    assert stats["ops"] == pytest.approx(1 / 0.00204)
    assert stats["stddev"] == pytest.approx(statistics.stdev(stats["data"]))
    assert bench["params"] == {"device": "rpi4", "variant": "fp32", "threads": 1, "provider": "CPUExecutionProvider", "batch": 1}
    assert "one value per launch" in bench["extra_info"]["replicates"]
    assert bench["extra_info"]["iterations"] == [101] * 5
    assert bench["extra_info"]["variant_sha256"] == runs.SHA
    assert read(simple)["benchmarks"][1]["extra_info"]["speedup"] == pytest.approx(2.0)


def test_only_measured_cases_are_there(hostile: Judgement) -> None:
    found = read(hostile)["benchmarks"]
    assert [bench["params"]["variant"] for bench in found] == ["fp32", "static-QDQ", "short"]
    assert found[2]["stats"]["rounds"] == 2
    assert found[2]["extra_info"]["speedup_low"] is None


def test_an_emulated_device_is_left_out(emulated: Judgement, simple: Judgement) -> None:
    found = read(emulated)
    assert found["benchmarks"] == []
    assert found["machine_info"]["node"] is None
    assert read(simple.with_tables([replace(simple.tables[0], emulated="qemu")]))["benchmarks"] == []


def test_a_clock_that_did_not_move_makes_no_benchmark() -> None:
    found = read(runs.simple(medians={"fp32": [1.0] * 3, "static-QDQ": [0.0] * 3}))
    assert [bench["name"] for bench in found["benchmarks"]] == ["fp32"]


def test_one_round_has_no_spread() -> None:
    stats = read(runs.simple(medians={"fp32": [2.0], "static-QDQ": [1.0]}))["benchmarks"][0]["stats"]
    assert (stats["stddev"], stats["iqr"], stats["outliers"], stats["rounds"]) == (0, 0, "0;0", 1)
    assert stats["min"] == stats["max"] == stats["q1"] == stats["q3"] == stats["ld15iqr"] == stats["hd15iqr"]
    assert stats["min"] == pytest.approx(0.002)


def test_several_devices_keep_their_names_apart() -> None:
    records = [DeviceRecord(entry=Device(name=name, host="h"), facts=runs.facts()) for name in ("one", "two")]
    events = [*runs.blocks("one", "c0", [1.0] * 3), *runs.blocks("two", "c0", [5.0] * 3)]
    found = runs.finish(events, *records, variants=[runs.variant("fp32")], cases=[runs.case("c0", "fp32")])
    content = read(found)
    assert [bench["fullname"] for bench in content["benchmarks"]] == ["digits.one::fp32", "digits.two::fp32"]
    assert [bench["stats"]["mean"] for bench in content["benchmarks"]] == pytest.approx([0.001, 0.005])
    assert content["machine_info"]["node"] == "one, two"
    assert content["machine_info"]["machine"] == "aarch64"


@pytest.mark.parametrize(
    ("data", "quartiles"),
    [
        ([1.0, 2.0], (1.0, 2.0)),
        ([1.0, 2.0, 3.0], (1.25, 2.75)),
        ([1.0, 2.0, 3.0, 4.0], (1.5, 3.5)),
        ([1.0, 2.0, 3.0, 4.0, 5.0], (1.75, 4.25)),
        ([7.0, 1.0, 2.0, 6.0, 3.0, 5.0, 4.0], (2.25, 5.75)),
    ],
)
def test_quartiles_are_pytest_benchmarks(data: list[float], quartiles: tuple[float, float]) -> None:
    stats = benchmark_json._stats(data)
    assert (stats["q1"], stats["q3"]) == pytest.approx(quartiles)


def test_outliers_are_counted() -> None:
    stats = benchmark_json._stats([1.0, 1.1, 1.0, 1.1, 1.0, 1.1, 9.0])
    assert stats["outliers"] == "1;1"
    assert (stats["ld15iqr"], stats["hd15iqr"], stats["max"]) == (1.0, 1.1, 9.0)


@given(st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=30))
def test_stats_are_in_order(data: list[float]) -> None:
    stats = benchmark_json._stats(data)
    slack = 1 + 1e-9
    assert stats["min"] <= stats["q1"] * slack
    assert stats["q1"] <= stats["median"] * slack
    assert stats["median"] <= stats["q3"] * slack
    assert stats["q3"] <= stats["max"] * slack
    assert stats["min"] <= stats["ld15iqr"] <= stats["hd15iqr"] <= stats["max"]


@pytest.mark.slow
def test_pytest_benchmark_compares_two_of_them(simple: Judgement, tmp_path: Path) -> None:
    for name in ("0001_old.json", "0002_new.json"):
        (tmp_path / name).write_bytes(benchmark_json.render(simple))
    done = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", "0001_old.json", "0002_new.json"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "fp32" in done.stdout
    assert "static-QDQ" in done.stdout
