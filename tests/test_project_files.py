"""The files by which GitHub and pre-commit test this project agree with what the project says about itself."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize(
    "path", [ROOT / ".pre-commit-config.yaml", *sorted((ROOT / ".github").rglob("*.yml"))], ids=lambda path: path.name
)
def test_each_is_yaml(path: Path) -> None:
    assert isinstance(read(path), dict)


def test_the_workflow_tests_the_versions_of_python_that_the_classifiers_promise() -> None:
    prefix = "Programming Language :: Python :: 3."
    promised = [each.rpartition(" ")[2] for each in PROJECT["project"]["classifiers"] if each.startswith(prefix)]
    assert read(WORKFLOW)["jobs"]["test"]["strategy"]["matrix"]["python"] == promised
    assert PROJECT["project"]["requires-python"] == f">={promised[0]}"


def test_continuous_integration_calls_only_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    steps = [step for job in read(WORKFLOW)["jobs"].values() for step in job["steps"]]
    commands = [step.get("run", "") for step in steps] + (ROOT / ".ci" / "run").read_text().splitlines()
    called = {found[1] for each in commands if (found := re.match(r"make ([a-z-]+)", each))}
    assert {"test", "coverage", "test-faults"} <= called <= targets


def test_what_the_lock_pins_is_what_the_project_asks_for() -> None:
    """A dependency that was added without ``make lock`` would be missing on every machine but its author's."""
    asked = [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"]]
    assert {re.split(r"[^\w.-]", each)[0].lower() for each in asked} <= set(LOCK)
