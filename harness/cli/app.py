"""The ``harness`` command.

Modules here import at the top only what ``--help`` needs; a command imports its part of the house when it runs.
"""

from __future__ import annotations

import signal

import typer

from harness.cli import baseline, board, check, claims, compare, debug, device, devices, inspect, quantize, run, show

app = typer.Typer(
    name="harness",
    help="Measure quantized ONNX models on real devices.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("inspect")(inspect.inspect)
app.command("quantize")(quantize.quantize)
app.command("debug")(debug.debug)
app.command("devices")(devices.devices)
app.add_typer(device.app, name="device")
app.add_typer(board.app, name="board")
app.command("show")(show.show)
app.command("claims")(claims.claims)
app.command("compare")(compare.compare)
app.command("check")(check.check)
app.add_typer(baseline.app, name="baseline")


def main() -> None:
    """Run the command line; a terminal that closes and a server that aborts a build end it as Ctrl-C does."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    app()
