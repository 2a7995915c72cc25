"""harness --version."""

from __future__ import annotations

import gc
from typing import Annotated

import typer


def _show(asked: bool) -> None:
    """Print the distribution's name and version, and end."""
    if asked:
        from harness import DISTRIBUTION, __version__

        typer.echo(f"{DISTRIBUTION} {__version__}")
        raise typer.Exit


def root(
    version: Annotated[  # noqa: ARG001 - its callback has answered already
        bool, typer.Option("--version", callback=_show, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Measure quantized ONNX models on real devices."""
    # The start went without garbage collection, see harness.cli.main; a command goes with it.
    gc.enable()
