"""Arguments of benchmarks are checked before anything is measured, and their JSON has rounded figures."""

from __future__ import annotations

import json
import runpy
from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from tests import duets

arguments = runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks" / "arguments.py"))


@pytest.mark.parametrize("text", ["0", "-3", "2.5", "many", ""])
def test_a_count_is_a_whole_number(text: str) -> None:
    assert arguments["at_least"](1)("7") == 7
    with pytest.raises(ArgumentTypeError):
        arguments["at_least"](1)(text)


def test_names_are_known_ones() -> None:
    read = arguments["some_of"](("mlp", "cnn"))
    assert (read("cnn, mlp"), read("none")) == (["cnn", "mlp"], [])
    with pytest.raises(ArgumentTypeError, match="'rnn' is unknown; known: mlp, cnn"):
        read("mlp,rnn")


def test_a_file_to_write_has_a_folder(tmp_path: Path) -> None:
    assert arguments["writable"](str(tmp_path / "kept.json")) == tmp_path / "kept.json"
    for path in (tmp_path, tmp_path / "none" / "kept.json"):
        with pytest.raises(ArgumentTypeError):
            arguments["writable"](str(path))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"mlp, quiet": []}', '{"mlp, quiet": [[{}, 1.0]]}', '{"mlp, quiet": 3}'])
def test_a_file_to_replay_holds_launches(tmp_path: Path, content: str) -> None:
    path = tmp_path / "kept.json"
    path.write_text(content)
    for text in (str(path), str(tmp_path / "none.json")):
        with pytest.raises(ArgumentTypeError):
            arguments["cells_of"](text)
    line = duets.line(("c0", "c1"), 0, duets.rebuild(duets.pair([[2000] * 3, [1000] * 3])))
    path.write_text(json.dumps({"mlp, quiet": [[line, 1.5]]}))
    assert list(arguments["cells_of"](str(path))) == ["mlp, quiet"]


def test_figures_are_rounded_wherever_they_are() -> None:
    found = arguments["rounded"]({"a": [0.1 + 0.2, (1, "x")], "b": {"c": 1234567.89, "d": True, "e": None}})
    assert found == {"a": [0.3, [1, "x"]], "b": {"c": 1234570.0, "d": True, "e": None}}
