"""harness inspect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import command as shared
from harness.errors import Exit

if TYPE_CHECKING:
    from harness.quantize.planning.inspect import ModelFacts


@shared.showing
def inspect(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The ONNX model.")],
    device: Annotated[
        list[str] | None,
        typer.Option("--device", metavar="NAME|@TAG", help="A device on which variants would run; may be repeated."),
    ] = None,
    platform: shared.Platforms = None,
    registry: shared.Registry = None,
    as_json: shared.Json = False,
) -> Exit:
    """Show a model's nodes, operators, inputs and outputs, and which recipes work on it.

    Exit code: 0 shown, 2 wrong usage or input, 3 a device can't be reached.
    """
    from harness.cli.platforms import platforms_of
    from harness.quantize.planning.inspect import inspect_model

    platforms, silent = platforms_of(platform or [], device or [], registry)
    facts = inspect_model(model, platforms)
    if as_json:
        shared.say_json(facts.model_dump(mode="json") | {"unreached": silent})
    else:
        _print(facts)
        for name, reason in silent.items():
            shared.say_error(
                f"{name}: could not be asked, so no rule was checked for it: {reason}", Exit.INCOMPLETE, as_json=False
            )
    return Exit.INCOMPLETE if silent else Exit.PASSED


def _print(facts: ModelFacts) -> None:
    from harness.cli import planned
    from harness.cli.grid import console, grid
    from harness.report.numbers import size

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
        out.print(f"already quantized: {kinds}", markup=False)
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
    planned.show(facts.plan, out)
