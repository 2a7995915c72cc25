from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from junitparser import JUnitXml

from harness.judge.judgement import Judgement, judge
from harness.report import junit
from tests.report import runs

# What the schema of Jenkins' xunit plugin (junit-10.xsd) lets each element have.
SCHEMA = {
    "testsuites": {"name", "time", "tests", "failures", "errors"},
    "testsuite": {"name", "tests", "failures", "errors", "group", "time", "skipped", "timestamp", "hostname", "id", "package"},
    "properties": set(),
    "property": {"name", "value"},
    "testcase": {"name", "time", "classname", "group"},
    "error": {"type", "message"},
    "failure": {"type", "message"},
    "skipped": {"type", "message"},
    "system-out": set(),
}  # fmt: skip
TIME = r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]{0,3})?"


def read(summary: Judgement) -> ET.Element:
    """The file as a server reads it."""
    return ET.fromstring(junit.render(summary))


def outcomes(root: ET.Element, suite: str) -> dict[str, str]:
    """What became of a suite's tests."""
    cases = root.findall(f"testsuite[@name='{suite}']/testcase")
    return {
        case.attrib["name"].split()[0].removesuffix(".latency.median"): next(
            (child.tag for child in case if child.tag != "system-out"), "passed"
        )
        for case in cases
    }


def test_outcomes_of_a_measured_device(hostile: Judgement) -> None:
    assert outcomes(read(hostile), "digits.rpi4") == {
        "fp32": "passed", "static-QDQ": "passed", "broken": "error", "short": "passed", "never": "skipped", "refused": "error",
    }  # fmt: skip


def test_a_failed_device_is_one_error_and_its_cases_are_skipped(hostile: Judgement) -> None:
    assert outcomes(read(hostile), "digits.n1.lab") == {
        "device": "error", "fp32": "skipped", "static-QDQ": "skipped", "broken": "skipped", "short": "skipped", "never": "skipped", "refused": "error",
    }  # fmt: skip
    error = read(hostile).find(".//testcase[@name='device']/error")
    assert error is not None
    assert error.attrib["message"].startswith("connect: <script>")


def test_a_tests_time_is_the_median_in_seconds(simple: Judgement) -> None:
    case = read(simple).find(".//testcase[@name='fp32.latency.median']")
    median = runs.row(simple, "rpi4", "fp32").median
    assert case is not None
    assert median is not None
    assert case.attrib["classname"] == "digits.rpi4"
    assert float(case.attrib["time"]) == pytest.approx(median.value / 1000, abs=1e-9)
    assert "speed-up: 1×" in (case.findtext("system-out") or "")


def test_a_time_far_below_a_millisecond_is_kept_without_an_exponent() -> None:
    summary = runs.simple(medians={"fp32": [0.00002] * 3, "static-QDQ": [0.00001] * 3})
    case = read(summary).find(".//testcase[@name='fp32.latency.median']")
    assert case is not None
    assert case.attrib["time"] == "0.000000020"


def test_reasons_and_hostile_words_come_through_without_control_characters(hostile: Judgement) -> None:
    data = junit.render(hostile).decode()
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f]", data)
    error = ET.fromstring(data).find(".//testcase[@name='broken.latency.median']/error")
    assert error is not None
    assert error.text == "crash: " + runs.NASTY.replace("\x07", "\ufffd").replace("\x1b", "\ufffd")
    assert "\n" not in error.attrib["message"]
    assert error.attrib["type"] == "failed"


@pytest.mark.parametrize("which", ["hostile", "simple", "emulated"])
def test_the_xunit_plugins_schema_takes_it(which: str, request: pytest.FixtureRequest) -> None:
    root = read(request.getfixturevalue(which))
    for element in root.iter():
        assert set(element.attrib) <= SCHEMA[element.tag]
    for suite in [root, *root.findall("testsuite")]:
        assert re.fullmatch(TIME, suite.attrib["time"])
        assert {"name", "tests", "failures", "errors"} <= set(suite.attrib)


def test_suites_count_their_tests_and_say_what_they_depend_on(hostile: Judgement) -> None:
    suite, failed = JUnitXml.fromstring(junit.render(hostile))
    assert (suite.tests, suite.errors, suite.failures, suite.skipped) == (6, 2, 0, 1)
    assert (failed.tests, failed.errors, failed.skipped) == (7, 2, 5)
    assert suite.timestamp == "2026-11-20T10:15:00"
    # Thirteen blocks of half a second.
    assert suite.time == 6.5
    found = {each.attrib["name"]: each.attrib["value"] for each in read(hostile).findall("testsuite[1]/properties/property")}
    assert (found["model.sha256"], found["onnxruntime"], found["arch"]) == (runs.SHA, "1.31.1", "aarch64")
    assert found["cpu"].startswith("Cortex <script>")
    root = read(hostile)
    assert (root.attrib["tests"], root.attrib["errors"], root.attrib["failures"]) == ("13", "4", "0")
    assert float(root.attrib["time"]) == 6.5


def test_an_emulated_devices_tests_are_skipped(emulated: Judgement) -> None:
    assert set(outcomes(read(emulated), "digits.rpi4").values()) == {"skipped"}
    skipped = read(emulated).find(".//skipped")
    assert skipped is not None
    assert "emulated (qemu)" in skipped.attrib["message"]
    emulation = read(emulated).find(".//property[@name='emulated']")
    assert emulation is not None


def test_a_clock_too_coarse_is_named() -> None:
    summary = runs.simple(medians={"fp32": [1.0] * 3, "static-QDQ": [0.0] * 3})
    skipped = read(summary).find(".//testcase[@name='static-QDQ.latency.median']/skipped")
    assert skipped is not None
    assert "too coarse" in skipped.attrib["message"]


def test_a_device_without_rows_still_has_a_test(simple: Judgement) -> None:
    begun = simple.run.model_copy(update={"results": ()})
    assert outcomes(read(judge(begun, {})), "digits.rpi4") == {"device": "skipped"}
