"""The ``harness`` command.

Modules here import at the top only what ``--help`` needs; a command imports its part of the house when it runs.
"""

from __future__ import annotations

import os
import sys

import typer

from harness import paths
from harness.cli import baseline, board, check, claims, compare, debug, device, devices, inspect, quantize, show, streams, version
from harness.cli import run as run_command
from harness.errors import Exit

# The shells' completion scripts, which typer writes, set this variable and call ``harness``.
COMPLETE = "_HARNESS_COMPLETE"
COMPLETION_OPTIONS = {"--install-completion", "--show-completion"}

app = typer.Typer(
    name="harness",
    help="Measure quantized ONNX models on real devices.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback()(version.root)
app.command("run")(run_command.run)
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


def run() -> int:
    """Run the command that ``sys.argv`` names.

    Returns:
        Its exit code.

    Raises:
        BaseException: whatever nobody foresaw.
    """
    completion = not COMPLETION_OPTIONS.isdisjoint(sys.argv[1:])
    if warning := paths.settle():
        streams.say(warning)
    try:
        # Else typer would end the process itself, in some cases with 1.
        code = app(standalone_mode=False)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except SystemExit as end:
        # Typer ends the process itself after these; fish tells 0 from 1.
        if COMPLETE not in os.environ and not completion:
            raise
        code = end.code
    except Exception as exc:
        # Wrong usage: typer's class for it has no public name.
        if not callable(getattr(exc, "format_message", None)):
            raise
        from typer import rich_utils

        rich_utils.rich_format_error(exc)  # type: ignore[arg-type]
        return Exit.USAGE
    if code and completion:
        # The shell is not supported; typer's own code would be that of a regression.
        return Exit.USAGE
    return code if isinstance(code, int) else Exit.PASSED
