"""A FIFO or a device in the place of a file that a command reads is refused at once: reading it would wait for ever, or never end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Command

WORDS = {
    "a model": ("inspect", "{}.onnx"),
    "a model to run": ("run", "{}.onnx"),
    "a baseline's model": ("check", "{study}", "--baseline", "{}.onnx"),
    "a study": ("run", "{}"),
    "a registry": ("devices", "--registry", "{}"),
    "evaluation data": ("run", "{model}", "--dim", "batch=1", "--evaluation", "{}"),
    "calibration data": ("run", "{model}", "--dim", "batch=1", "--calibration", "{}"),
}


@pytest.mark.parametrize("what", WORDS)
@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_it_is_refused(harness: Command, study: Path, what: str, kind: str) -> None:
    stream = Path("stream.onnx" if "{}.onnx" in WORDS[what] else "stream")
    if kind == "fifo":
        os.mkfifo(stream)
    else:
        stream.symlink_to("/dev/zero")
    model = study / "model.onnx" if study.is_dir() else study.parent / "model.onnx"
    words = [
        word.replace("{}.onnx", str(stream)).replace("{}", str(stream)).format(study=study, model=model) for word in WORDS[what]
    ]
    done = harness(*words)
    assert done.code == 2
    assert f"{stream}: not a regular file; copy its content into a regular file, and give that path" in done.err


def test_an_empty_registry_may_be_dev_null(harness: Command) -> None:
    done = harness("devices", "--registry", os.devnull, "--json")
    assert (done.code, [each["device"] for each in done.json["devices"]]) == (0, ["local"])
