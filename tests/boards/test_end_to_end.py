"""A study on two virtual ARM boards beside this machine. Needs the image: 'make test-boards' builds it once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.devices.boards import image
from tests.conftest import DIGITS

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.boards, pytest.mark.slow]

CORES = {"a53": "cortex-a53", "a76": "cortex-a76"}
# Fixed before any test moves HOME.
HOME = Path(os.environ.get("QUANT_HARNESS_HOME") or Path.home() / ".cache" / "quant-harness")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a devices.toml of two boards that have a runtime."""
    folder = tmp_path_factory.mktemp("bench")
    images = HOME / "boards"
    try:
        image.find(images)
    except Exception as exc:  # noqa: BLE001 - whatever is missing, the reason is the message
        pytest.skip(str(exc))
    names = []
    try:
        for name, cpu in CORES.items():
            run(folder, "board", "up", name, "--cpu", cpu, "--folder", str(images))
            names.append(name)
            run(folder, "device", "provision", name)
        yield folder
    finally:
        for name in names:
            run(folder, "board", "down", name)
    assert not list((folder / "home" / "boards" / "up").iterdir())


def run(folder: Path, *words: str, code: int = 0) -> str:
    """Run the command in the bench's folder; gives its standard output."""
    env = {**os.environ, "QUANT_HARNESS_HOME": str(folder / "home"), "HARNESS_RESULTS": str(folder / "results")}
    command = [sys.executable, "-c", "from harness.cli import main; main()", *words]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == code, done.stderr[-3000:]
    return done.stdout


def rows(content: Any) -> dict[str, dict[str, dict[str, Any]]]:
    return {device["device"]: {row["case"]: row for row in device["rows"]} for device in content["devices"]}


def test_the_digits_study_on_two_cores_beside_this_machine(bench: Path) -> None:
    words = ["run", str(DIGITS), "--device", "local", "--device", "@arm64", "--rounds", "3", "--max-time", "30m", "--json"]
    content = json.loads(run(bench, *words, "--variant", "static-*"))
    facts = {device["device"]: device["facts"] for device in content["devices"]}
    assert {facts[name]["arch"] for name in CORES} == {"aarch64"}
    assert "asimddp" not in facts["a53"]["features"]
    assert "asimddp" in facts["a76"]["features"]
    found = rows(content)
    for name in CORES:
        row = found[name]
        assert all(each["median_ms"] is None and each["speedup"] is None for each in row.values())
        for types in ("S8S8", "U8S8", "U8U8"):
            assert row[f"static-QDQ-{types}"]["instructions_millions"] == pytest.approx(
                row[f"static-QOperator-{types}"]["instructions_millions"], rel=1e-3
            )
            assert row[f"static-QDQ-{types}"]["instructions_spread"] < 1e-3
    a53 = found["a53"]
    ratio = a53["static-QDQ-S8S8"]["instructions_millions"] / a53["static-QDQ-U8U8"]["instructions_millions"]
    assert 0.7 < ratio < 0.85
    for name in CORES:
        for case, each in found[name].items():
            if each["state"] == "measured":
                assert each["top1_agreement"] == 1.0, case
                assert each["sqnr_db"] == pytest.approx(found["local"][case]["sqnr_db"] or 140, abs=10)


def test_two_runs_of_one_model_agree(bench: Path) -> None:
    words = ["run", str(DIGITS), "--device", "a53", "--variant", "static-QDQ-U8S8", "--max-time", "30m", "--json"]
    first, second = (rows(json.loads(run(bench, *words)))["a53"]["static-QDQ-U8S8"]["instructions_millions"] for _ in range(2))
    assert first == pytest.approx(second, rel=1e-3)
