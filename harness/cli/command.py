"""What every command shares: options, how errors are shown, and the exit code."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from harness.cli import streams
from harness.errors import Exit, HarnessError
from harness.text import sanitize

if TYPE_CHECKING:
    from collections.abc import Callable

Arguments = ParamSpec("Arguments")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of tables.")]
Registry = Annotated[
    Path | None, typer.Option("--registry", metavar="FILE", help="The devices.toml to use. [default: ./devices.toml]")
]
Results = Annotated[Path, typer.Option("--results", metavar="DIR", envvar="HARNESS_RESULTS", help="Where runs are kept.")]
Devices = Annotated[
    list[str] | None, typer.Option("--device", metavar="NAME|@TAG", help="Measure on these devices; may be repeated.")
]
Variants = Annotated[
    list[str] | None, typer.Option("--variant", metavar="GLOB", help="Make only these variants (and fp32); may be repeated.")
]
Target = Annotated[
    Path | None,
    typer.Argument(metavar="[STUDY|MODEL.onnx]", help="A study.toml, its folder, or a bare model.", show_default=False),
]
Dims = Annotated[
    list[str] | None,
    typer.Option("--dim", metavar="NAME=VALUE", help="A symbolic dimension of a bare model; VALUE may be a list: 1,8."),
]
Calibration = Annotated[
    str | None,
    typer.Option(
        "--calibration",
        metavar="DATA",
        help="For a bare model: .npz, folder of arrays, images or recordings, module:callable, 'random', 'random:uniform(0,1)'.",
    ),
]
Evaluation = Annotated[
    str | None, typer.Option("--evaluation", metavar="DATA", help="For a bare model: inputs and, where there are any, labels.")
]
LabelOutput = Annotated[
    str | None, typer.Option("--output", metavar="NAME", help="For a bare model: the output that the labels are compared with.")
]
Methods = Annotated[
    str | None,
    typer.Option("--variants", metavar="METHODS", help="For a bare model: of fp32,fp16,dynamic,static; or given: as it is."),
]
Platforms = Annotated[
    list[str] | None,
    typer.Option(
        "--platform",
        metavar="ARCH,FEATURE,…,VERSION",
        help="A processor and onnxruntime's version in a device's place, such as aarch64,asimddp,1.23.2; may be repeated.",
    ),
]

Rounds = Annotated[
    int | None, typer.Option("--rounds", min=1, help="At most so many rounds for each device. [default: the study's]")
]
MaxTime = Annotated[
    str | None,
    typer.Option("--max-time", metavar="TIME", help="At most this long for each device, such as 5m. [default: the study's]"),
]
Wait = Annotated[
    str | None,
    typer.Option(
        "--wait", metavar="TIME", help="Queue this long for a device that another job holds, such as 10m. [default: exit 75]"
    ),
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, a unique prefix of its name, or 'latest'.")]

RESULTS = Path("results")


_acted = False


def only_shows() -> bool:
    """Whether what was run does nothing but show something."""
    return not _acted


def showing(function: Callable[Arguments, Exit]) -> Callable[Arguments, None]:
    """As :func:`command`, for what does nothing but show something: it has failed if its output can't be written."""
    return _command(function, acts=False)


def command(function: Callable[Arguments, Exit]) -> Callable[Arguments, None]:
    """Turn a function that returns an exit code into a command: errors that are ours become one message."""
    return _command(function, acts=True)


def _command(function: Callable[Arguments, Exit], *, acts: bool) -> Callable[Arguments, None]:
    @functools.wraps(function)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        global _acted  # noqa: PLW0603 - one command runs in a process
        _acted = acts
        put_back = streams.keep()
        try:
            code = function(*args, **kwargs)
        except HarnessError as exc:
            code = exc.exit
            say_error(str(exc), code, as_json=bool(kwargs.get("as_json")))
        except KeyboardInterrupt:
            put_back()
            code = Exit.INTERRUPTED
            say_error("interrupted", code, as_json=bool(kwargs.get("as_json")))
        except OSError as exc:
            # A disk that is full or a file that may not be touched, where no step of ours foresaw it.
            code = Exit.USAGE
            message = f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc.strerror or exc)
            say_error(message, code, as_json=bool(kwargs.get("as_json")))
        raise typer.Exit(int(code))

    return run


def say_error(message: str, code: Exit, *, as_json: bool) -> None:
    """Write an error for people, and for programs where they asked."""
    typer.echo("\n".join(f"harness: {line}" for line in sanitize(message).splitlines()), err=True)
    if as_json:
        say_json({"error": message, "exit": int(code)})


def say_json(content: Any) -> None:  # noqa: ANN401 - whatever JSON can say
    """Write one JSON object on stdout."""
    typer.echo(json.dumps(content, indent=1, allow_nan=False))
