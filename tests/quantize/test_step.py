from __future__ import annotations

from harness.quantize.step import listed


def test_a_note_names_each_once() -> None:
    assert listed(["b", "a", "b"]) == "'b', 'a'"
    assert listed(["b", "b", "a", "c", "d", "e", "e"]) == "'b', 'a', 'c' and 2 more"
