"""The values of a model's open dimensions, and the input shapes that they give."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from harness.errors import ModelError
from harness.study.toml_file import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.quantize.model.model import SourceModel, TensorSpec

Shapes = dict[str, tuple[int, ...]]


def open_dims(model: SourceModel) -> tuple[str, ...]:
    """List the names of the dimensions that need a value, each once, in the order of the inputs."""
    return tuple(dict.fromkeys(size for _, _, size in _open_axes(model) if isinstance(size, str)))


def resolve_dims(model: SourceModel, dims: Mapping[str, Sequence[int]]) -> tuple[dict[str, int], ...]:
    """Combine the values that are given for a model's dimensions.

    Args:
        model: the model; only the dimensions of its inputs matter.
        dims: values by name. ``INPUT.AXIS``, such as ``x.0``, names any open dimension, and wins over its own name.

    Returns:
        Every combination, one value per name: ``{"batch": [1, 8]}`` gives two.

    Raises:
        ModelError: if a dimension has no value, or a name is not the model's.
    """
    axes = list(_open_axes(model))
    known = dict.fromkeys(name for spec, axis, size in axes for name in (size, f"{spec.name}.{axis}"))
    if unknown := [name for name in dims if name not in known]:
        raise ModelError("\n".join(_unknown(model, name, list(known)) for name in unknown))
    missing = {size: spec for spec, axis, size in reversed(axes) if size not in dims and f"{spec.name}.{axis}" not in dims}
    if missing:
        raise ModelError(_missing(model, dict(reversed(missing.items()))))
    return tuple(dict(zip(dims, values, strict=True)) for values in product(*dims.values()))


def input_shapes(model: SourceModel, dims: Mapping[str, int]) -> Shapes:
    """Fill values into the shapes of the inputs.

    Args:
        model: the model.
        dims: one of the combinations of :func:`resolve_dims`.

    Raises:
        ModelError: if a dimension has no value, a name is not the model's, or the values leave every input empty.
    """
    resolve_dims(model, {name: [value] for name, value in dims.items()})
    shapes = {
        spec.name: tuple(
            size if isinstance(size, int) else dims.get(f"{spec.name}.{axis}", dims.get(size, 0))
            for axis, size in enumerate(spec.shape)
        )
        for spec in model.inputs
    }
    if shapes and all(0 in shape for shape in shapes.values()):
        zeros = ", ".join(f"{name}={value}" for name, value in dims.items() if value == 0)
        message = f"{model.path}: with {zeros or 'these sizes'} every input is empty, so that nothing is computed; a size of 0 suits a past, not a batch"
        raise ModelError(message)
    return shapes


def _open_axes(model: SourceModel) -> Iterator[tuple[TensorSpec, int, str]]:
    for spec in model.inputs:
        for axis, size in enumerate(spec.shape):
            if isinstance(size, str):
                yield spec, axis, size


def _unknown(model: SourceModel, name: str, known: Sequence[str]) -> str:
    hint = nearest(name, known) if known else "its shapes are fixed: " + "; ".join(str(spec) for spec in model.inputs)
    return f"{model.path}: no input has an open dimension '{name}'; {hint}"


def _missing(model: SourceModel, missing: Mapping[str, TensorSpec]) -> str:
    listed = ", ".join(f"'{name}' (input {spec})" for name, spec in missing.items())
    options = " ".join(f"--dim {name}=1" for name in missing)
    # A dot in a bare TOML key would open another table.
    keys = ", ".join(f'"{name}" = 1' if "." in name else f"{name} = 1" for name in missing)
    return (
        f"{model.path}: these dimensions have no value: {listed}; "
        f"give {options} with your sizes, or dims = {{ {keys} }} under [model] of the study"
    )
