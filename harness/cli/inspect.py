"""harness inspect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import command as shared
from harness.errors import Exit

if TYPE_CHECKING:
    from harness.quantize.inspect import ModelFacts


@shared.command
def inspect(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX model.")],
    as_json: shared.Json = False,
) -> Exit:
    """Show a model's nodes, operators, inputs and outputs, and what each recipe can and can't do with it."""
    from harness.quantize.inspect import inspect_model

    facts = inspect_model(model)
    if as_json:
        shared.say_json(facts.model_dump(mode="json"))
    else:
        _print(facts)
    return Exit.PASSED


def _print(facts: ModelFacts) -> None:
    from harness.cli.grid import console, grid
    from harness.report.columns import size

    out = console()
    opsets = ", ".join(f"{domain} {version}" for domain, version in facts.opsets.items())
    out.print(
        f"{facts.path}: {size(facts.size)}, {facts.parameters:,} parameters, opset {opsets}, IR {facts.ir_version}", markup=False
    )
    out.print(f"sha256 {facts.sha256}", markup=False)
    if facts.producer:
        out.print(f"made by {facts.producer}", markup=False)
    if facts.external_data:
        out.print(f"external data: {', '.join(facts.external_data)}", markup=False)
    tensors = [("input", tensor) for tensor in facts.inputs] + [("output", tensor) for tensor in facts.outputs]
    rows = [[kind, tensor.name, tensor.dtype, ", ".join(map(str, tensor.shape)) or "scalar"] for kind, tensor in tensors]
    out.print(grid(["", "name", "dtype", "shape"], rows))
    if facts.open_dims:
        options = " ".join(f"--dim {name}=…" for name in facts.open_dims)
        out.print(f"dimensions that need a value: {options}", markup=False)
    if facts.quantized:
        kinds = ", ".join(f"{count} {kind}" for kind, count in facts.quantized.items())
        out.print(f"quantized already: {kinds}", markup=False)
    nodes = [
        [str(node.index), node.name, node.op_type, ", ".join(node.inputs), node.inside] if node.inside else
        [str(node.index), node.name, node.op_type, ", ".join(node.inputs), ""]
        for node in facts.nodes
    ]  # fmt: skip
    inside = any(node.inside for node in facts.nodes)
    out.print(
        grid(
            ["index", "name", "op type", "inputs", *(["inside"] if inside else [])],
            nodes if inside else [row[:4] for row in nodes],
        )
    )
    out.print(grid(["op type", "nodes"], [[kind, str(count)] for kind, count in facts.op_histogram.items()]))
    recipes = []
    for recipe in facts.recipes:
        taken = ", ".join(f"{count} {kind}" for kind, count in recipe.quantizes.items())
        word = "yes" if recipe.possible else "no"
        recipes.append(
            [recipe.name, word, recipe.reason or taken, ", ".join(recipe.stays_float) if recipe.possible and taken else ""]
        )
    out.print(grid(["recipe", "possible", "works on, or why not", "stays float"], recipes))
