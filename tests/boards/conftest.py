"""Two virtual ARM boards that have a runtime, once for all tests of this folder, and the command there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.devices.boards import image
from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

CORES = {"a53": "cortex-a53", "a76": "cortex-a76"}
# Fixed before any test moves HOME.
IMAGES = image.folder_of_images(Path(os.environ["HARNESS_BOARDS"]) if "HARNESS_BOARDS" in os.environ else None)


@dataclass(frozen=True)
class Bench:
    """A folder with a devices.toml of boards, a store and results of its own."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"QUANT_HARNESS_HOME": str(self.folder / "home"), "HARNESS_RESULTS": str(self.folder / "results")}

    def run(self, *words: str, code: int = 0) -> str:
        """Run the command, which ends with this exit code; gives its standard output."""
        command = [sys.executable, "-c", "from harness.cli import main; main()", *words]
        env = {**os.environ, **self.environment}
        done = subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=1500, check=False)
        assert done.returncode == code, done.stderr[-3000:]
        return done.stdout

    def measure(self, *words: str) -> dict[str, Any]:
        """Run a study; gives the run's content."""
        content: dict[str, Any] = json.loads(self.run("run", *words, "--max-time", "30m", "--json"))
        return content


def rows(content: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """Device, case, row."""
    return {device["device"]: {row["case"]: row for row in device["rows"]} for device in content["devices"]}


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Boards that are up and provisioned; they are down, and gone, in the end."""
    try:
        image.find(IMAGES)
    except UsageError as exc:
        pytest.skip(str(exc))
    found = Bench(tmp_path_factory.mktemp("bench"))
    names = []
    try:
        for name, cpu in CORES.items():
            found.run("board", "up", name, "--cpu", cpu, "--folder", str(IMAGES))
            names.append(name)
            found.run("device", "provision", name)
        yield found
    finally:
        for name in names:
            found.run("board", "down", name)
    assert not (found.folder / "home" / "boards" / "up").exists()
