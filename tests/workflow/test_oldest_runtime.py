"""The oldest runtime among a study's devices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest

from harness.devices import registry
from harness.workflow import oldest_runtime
from harness.workflow.context import own_runtime
from tests.cli.conftest import Command, harness, study  # noqa: F401 - fixtures

BOARDS = """\
[old]
host = "old.lab"
runtimes = ["1.31.1", "1.17.3"]
tags = ["arm"]
[seen]
host = "seen.lab"
tags = ["arm"]
[new]
host = "new.lab"
"""


@pytest.fixture
def known() -> registry.Registry:
    Path("devices.toml").write_text(BOARDS)
    return registry.load()


def record(folder: str, **versions: Any) -> None:
    """Write what a run says of its devices."""
    path = Path("results") / folder / "run.json"
    path.parent.mkdir(parents=True)
    devices = [{"entry": {"name": name}, "facts": {"onnxruntime": {"version": version}}} for name, version in versions.items()]
    path.write_text(json.dumps({"devices": devices}))


def test_what_is_said_comes_first(known: registry.Registry) -> None:
    assert oldest_runtime.of_study(["old", "local"], known) == "1.17.3"
    assert oldest_runtime.of_study(["local"], known) == own_runtime()
    assert oldest_runtime.of_study(["new"], known) is None


def test_the_newest_run_tells_of_the_others(known: registry.Registry) -> None:
    record("s/2026-01-01T00-00-00Z-aaaa", seen="1.15.1")
    record("t/2026-01-02T00-00-00Z-aaaa", seen="1.19.2", old="1.15.1", new=None)
    record("u/2026-01-03T00-00-00Z-aaaa", other="1.16.0")
    assert oldest_runtime.of_study(["seen"], known, Path("results")) == "1.19.2"
    assert oldest_runtime.of_study(["@arm", "new"], known, Path("results")) == "1.17.3"
    assert oldest_runtime.of_study(["new"], known, Path("results")) is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"devices": 3}',
        '{"devices": [3]}',
        '{"devices": [{"entry": {"name": "seen"}, "facts": {"onnxruntime": 5}}]}',
    ],
)
def test_a_damaged_run_tells_nothing(known: registry.Registry, content: str) -> None:
    record("s/2026-01-01T00-00-00Z-aaaa", seen="1.15.1")
    later = Path("results/s/2026-01-02T00-00-00Z-bbbb/run.json")
    later.parent.mkdir()
    later.write_text(content)
    assert oldest_runtime.of_study(["seen"], known, Path("results")) == "1.15.1"


def test_an_unknown_device_tells_nothing(known: registry.Registry) -> None:
    assert oldest_runtime.of_study(["nobody"], known) is None


def test_variants_are_stamped_for_it(harness: Command, study: Path) -> None:  # noqa: F811
    Path("devices.toml").write_text(BOARDS)
    model = onnx.load(study / "model.onnx")
    model.ir_version = 12
    onnx.save(model, study / "model.onnx")
    file = study / "study.toml"
    for select, expected in (('["old"]', 9), ('["new"]', 12)):
        file.write_text(file.read_text().split("[devices]")[0] + f"[devices]\nselect = {select}\n")
        done = harness("quantize", str(study), "-o", "out", "--json")
        assert done.code == 0, done.err
        found = {each["recipe"]["name"]: each for each in done.json["variants"]}
        versions = {name: onnx.load(f"out/{name}.onnx").ir_version for name, each in found.items() if each["state"] == "made"}
        # fp32 is the user's own file.
        assert versions == {**dict.fromkeys(versions, expected), "fp32": 12}
        said = "onnxruntime 1.17.3 takes IR version 9 at most, and the file says 12: it will not load there; the recipe 'prepared' may"
        assert (said in found["fp32"]["notes"]) == (expected == 9)
