"""The ``harness`` command.

Modules here import at the top only what ``--help`` needs; a command imports its part of the house when it runs.
"""

from __future__ import annotations

import math
import signal
import time
from typing import TYPE_CHECKING

import typer

from harness.cli import baseline, board, check, claims, compare, debug, device, devices, inspect, quantize, run, show, version

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

TOGETHER_SECONDS = 2.0

app = typer.Typer(
    name="harness",
    help="Measure quantized ONNX models on real devices.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback()(version.root)
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
    interrupt = interrupts()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # What nohup or a shell's '&' has shielded stays shielded.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    app()


def interrupts() -> Callable[[int, FrameType | None], None]:
    """A signal handler that raises KeyboardInterrupt, once for signals that come together.

    A server that aborts a build signals every process of the step, and the step's shell passes on what it got: the second signal must
    not break into what the first began.
    """
    last = -math.inf

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= TOGETHER_SECONDS:
            last = now
            raise KeyboardInterrupt

    return handle
