from __future__ import annotations

import pytest

from harness.study.toml_file import line_of, nearest

TEXT = """\
name = "x"

[model]
path = "m.onnx"
dims = { batch = 1, length = 8 }

[[variant]]
method = "static"

[[variant]]
method = "fp32"
"op types" = 1
"""


@pytest.mark.parametrize(
    ("location", "line"),
    [
        (("name",), 1),
        (("model",), 3),
        (("model", "path"), 4),
        (("model", "dims", "length"), 5),
        (("variant", 0, "method"), 8),
        (("variant", 1, "method"), 11),
        (("variant", 1, "op types"), 12),
        (("nothing",), None),
    ],
)
def test_line_of(location: tuple[str | int, ...], line: int | None) -> None:
    assert line_of(TEXT, location) == line


def test_a_missing_key_is_placed_at_its_table() -> None:
    assert line_of(TEXT, ("model", "evaluation")) == 3


def test_nearest_names_one_or_lists_all() -> None:
    assert nearest("thread", ["threads", "rounds"]) == "did you mean 'threads'?"
    assert nearest("zzz", ["threads", "rounds"]) == "known: threads, rounds"
