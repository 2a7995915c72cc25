"""Random data of a stated distribution, the same on every pass and on every machine with the same numpy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import DataError
from harness.study.datasets import DataTable
from harness.study.toml_file import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.quantize.data.feeds import Labelled
    from harness.quantize.data.fit import Fit
    from harness.quantize.data.sources import Array
    from harness.quantize.model.model import TensorSpec

    Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]

SAMPLES = 16
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
CALL = re.compile(rf"\s*(\w+)\s*(?:\(\s*((?:{NUMBER})(?:\s*,\s*{NUMBER})*)?\s*\))?\s*")
EXAMPLES = "uniform(0, 1), normal(0, 1), integers(0, 30522), constant(1), zeros, ones"
# What each distribution is called, and how many numbers it takes.
ARITY = {"uniform": 2, "normal": 2, "integers": 2, "constant": 1, "zeros": 0, "ones": 0}


def read(text: str) -> DataTable:
    """Read the short form: ``random``, ``random:DISTRIBUTION``, or parts with semicolons such as ``random:ids=integers(0,30522);samples=64``.

    Raises:
        DataError: if it can't be read.
    """
    table: dict[str, int] = {}
    laws: dict[str, str] = {}
    common: str | None = None
    for part in filter(None, (part.strip() for part in text.partition(":")[2].split(";"))):
        name, equals, value = (word.strip() for word in part.rpartition("="))
        if not equals:
            common = part
        elif name in {"samples", "seed"} and value.isdigit():
            table[name] = int(value)
        else:
            laws[name] = value
    if common and laws:
        message = f"{text}: '{common}' is for all inputs and {', '.join(laws)} for one; say either"
        raise DataError(message)
    if table.get("samples") == 0:
        message = f"{text}: samples must be at least 1"
        raise DataError(message)
    return DataTable(random=laws or common or "", samples=table.get("samples"), seed=table.get("seed"))


def stream(fit: Fit, table: DataTable, source: str) -> Callable[[], Iterator[Labelled]]:
    """Prepare drawing.

    Floats without a distribution are standard normal, integers and booleans 0 and 1.

    Args:
        fit: the model's side.
        table: of the kind ``random``.
        source: how messages begin.

    Raises:
        DataError: if a distribution can't be read, or does not suit its input.
    """
    given = table.random if isinstance(table.random, dict) else {}
    names = [spec.name for spec in fit.model.inputs]
    for name in given:
        if name not in names:
            message = f"{source}: the model has no input '{name}'; {nearest(name, names)}"
            raise DataError(message)
    common = table.random if isinstance(table.random, str) else ""
    laws = {spec.name: _law(source, spec, given.get(spec.name, common or "")) for spec in fit.model.inputs}

    def draw() -> Iterator[Labelled]:
        rng = np.random.default_rng(table.seed or 0)
        for _ in range(table.samples or SAMPLES):
            yield {name: laws[name](rng, fit.shapes[name]) for name in names}, None

    return draw


def _law(source: str, spec: TensorSpec, text: str) -> Draw:
    """Read one distribution for one input."""
    dtype = _dtype(source, spec)
    law, numbers = _parse(source, text) if text else ("normal" if dtype.kind == "f" else "integers", [])
    if not text:
        numbers = [0, 1] if dtype.kind == "f" else [0, 2]
    if dtype.kind != "f" and law in {"uniform", "normal"}:
        message = (
            f"{source}: input '{spec.name}' is {spec.dtype}, and {law} gives fractions; say integers(low, high), without high"
        )
        raise DataError(message)
    ends = {"uniform": numbers, "integers": [numbers[0], numbers[-1] - 1] if numbers else [], "constant": numbers}.get(law, [])
    if dtype.kind in "iu" and any(not np.iinfo(dtype).min <= end <= np.iinfo(dtype).max for end in ends):
        message = f"{source}: '{text}' reaches beyond what {spec.dtype} of input '{spec.name}' can hold"
        raise DataError(message)

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        values: Array
        if law == "normal":
            # The plain generator of the standard distribution keeps the numbers that 'random' always gave.
            values = rng.standard_normal(shape) if numbers == [0, 1] else rng.normal(numbers[0], numbers[1], shape)
        elif law == "uniform":
            values = rng.uniform(numbers[0], numbers[1], shape)
        elif law == "integers":
            values = rng.integers(int(numbers[0]), int(numbers[1]), shape)
        else:
            values = np.full(shape, {"zeros": 0, "ones": 1}.get(law, numbers[0] if numbers else 0))
        return np.asarray(values).astype(dtype)

    return draw


def _parse(source: str, text: str) -> tuple[str, list[float]]:
    """Read ``name(number, number)``."""
    found = CALL.fullmatch(text)
    law = found[1] if found else text
    if found is None or law not in ARITY:
        name = re.match(r"\w*", text)
        hint = nearest(name[0] if name else text, list(ARITY))
        message = f"{source}: '{text}' is not a distribution; {hint}; such as {EXAMPLES}"
        raise DataError(message)
    numbers = [float(number) for number in (found[2] or "").split(",") if number.strip()]
    if len(numbers) != ARITY[law]:
        message = f"{source}: {law} takes {ARITY[law]} numbers, not {len(numbers)}; such as {EXAMPLES}"
        raise DataError(message)
    empty = (law in {"uniform", "integers"} and numbers[0] >= numbers[1]) or (law == "normal" and numbers[1] <= 0)
    if empty:
        why = "the standard deviation must be above 0" if law == "normal" else "the second number must be above the first"
        message = f"{source}: '{text}': {why}"
        raise DataError(message)
    if law == "integers" and any(number != int(number) for number in numbers):
        message = f"{source}: '{text}': integers takes whole numbers"
        raise DataError(message)
    return law, numbers


def _dtype(source: str, spec: TensorSpec) -> np.dtype[Any]:
    try:
        dtype = np.dtype(spec.dtype)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in "fiub":
        message = f"{source}: input '{spec.name}' is {spec.dtype}, for which no random data can be made; give calibration data"
        raise DataError(message)
    return dtype
