"""Models of one node, for each operator whose definition changed after opset 7, in each form that it had: attributes at default and other values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.quantize.nodes import bodies, elementwise, indices, networks, pools, reductions, shapes, windows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.quantize.nodes.case import Case


def cases() -> Iterator[Case]:
    """Yield every case."""
    for part in (elementwise, reductions, shapes, indices, pools, windows, networks, bodies):
        yield from part.cases()
