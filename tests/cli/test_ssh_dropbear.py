"""A study on a device with Dropbear."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.dropbear import DropbearServer

if TYPE_CHECKING:
    from tests.cli.conftest import Command


@pytest.mark.ssh
@pytest.mark.slow
def test_a_device_with_dropbear_is_added_and_measured(harness: Command, study: Path) -> None:
    if (reason := DropbearServer.lacking()) is not None:
        pytest.skip(reason)
    with DropbearServer() as server:
        host = f"{server.user}@127.0.0.1:{server.port}"
        added = harness("device", "add", "board", host, "--identity-file", str(server.identity), "--python", server.python)
        assert added.code == 0, added.err
        done = harness("run", str(study), "--device", "board", "--variant", "fp16", "--rounds", "2", "--json")
        assert done.code == 0, done.err
        (device,) = done.json["devices"]
        assert {row["state"] for row in device["rows"]} == {"measured"}
        assert all(row["median_ms"] > 0 for row in device["rows"])
