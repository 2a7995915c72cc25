"""The structures by name; each is a function with parameters, registered once with all values that it is built for."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from importlib import import_module
from itertools import product
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from families.net import Net

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Build = Callable[..., None]

STANDARD_OPSET = 17
PATTERNS: dict[str, Pattern] = {}


@dataclass(frozen=True)
class Pattern:
    """One structure.

    Attributes:
        name: ``FAMILY/FUNCTION-VALUES``.
        build: adds the structure to a :class:`Net`.
        values: the arguments of ``build``.
        opset: version of the standard operator set that the model uses.
        random: the model does not reproduce itself on purpose.
        infinite: the float model's outputs hold infinities on purpose.
        constant: output values may be the same for every sample, such as a fixed count.
    """

    name: str
    build: Build
    values: Mapping[str, Any]
    opset: int
    random: bool = False
    infinite: bool = False
    constant: bool = False

    def net(self) -> Net:
        """Build the structure; the same name always gives the same weights and data."""
        net = Net(self.opset, seed=zlib.crc32(self.name.encode()))
        self.build(net, **self.values)
        return net


def pattern(
    *,
    opset: tuple[int, ...] = (STANDARD_OPSET,),
    random: bool = False,
    infinite: bool = False,
    constant: bool = False,
    **grid: tuple[Any, ...],
) -> Callable[[Build], Build]:
    """Register a function for every combination of the values of its parameters, and for each operator set."""

    def register(build: Build) -> Build:
        family = build.__module__.rpartition(".")[2]
        for version, values in product(opset, _combinations(grid)):
            words = [
                build.__name__.replace("_", "-"),
                *(_word(key, value) for key, value in values.items() if value not in (False, None)),
            ]
            if len(opset) > 1:
                words.append(f"opset{version}")
            name = f"{family}/{'-'.join(words)}"
            if name in PATTERNS:
                message = f"two structures are called {name}"
                raise ValueError(message)
            PATTERNS[name] = Pattern(name, build, values, version, random, infinite, constant)
        return build

    return register


def _combinations(grid: Mapping[str, tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    for values in product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _word(key: str, value: object) -> str:
    """Spell a value for a name: text speaks for itself, a number needs the name of its parameter."""
    return (
        key.replace("_", "-") if value is True else value if isinstance(value, str) else f"{key}{_plain(value)}".replace("_", "-")
    )


def _plain(value: object) -> str:
    return "-".join(map(str, value)) if isinstance(value, tuple) else str(value)


def load_all() -> dict[str, Pattern]:
    """Import every family, and give the structures by name."""
    import families  # noqa: PLC0415 - this package itself, once it is there

    for _, name, _ in iter_modules(families.__path__):
        import_module(f"families.{name}")
    return PATTERNS
