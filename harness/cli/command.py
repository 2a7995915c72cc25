"""What all commands share: options, error messages and exit codes."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from harness.cli import streams
from harness.errors import Exit, HarnessError
from harness.text import sanitize

if TYPE_CHECKING:
    from collections.abc import Callable

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of tables.")]
Registry = Annotated[
    Path | None, typer.Option("--registry", metavar="FILE", help="The devices.toml to use. [default: ./devices.toml]")
]
Results = Annotated[Path, typer.Option("--results", metavar="DIR", envvar="HARNESS_RESULTS", help="Where runs are kept.")]
Devices = Annotated[
    list[str] | None, typer.Option("--device", metavar="NAME|@TAG", help="Measure on these devices; may be repeated.")
]
Variants = Annotated[
    list[str] | None,
    typer.Option("--variant", metavar="GLOB", help="Make only these variants and fp32: a name or a glob; may be repeated."),
]
Platforms = Annotated[
    list[str] | None,
    typer.Option(
        "--platform",
        metavar="ARCH,FEATURE,…,VERSION",
        help="Plan for this platform instead of a device: processor, features and version of onnxruntime, such as aarch64,asimddp,1.23.2; may be repeated.",
    ),
]

RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, a unique prefix of its name, or 'latest'.")]

RESULTS = Path("results")


_acted = False


def only_shows() -> bool:
    """Whether the command only shows something."""
    return not _acted


def showing(function: Callable[..., Exit]) -> Callable[..., None]:
    """Like :func:`command`, for a command that only shows something: it fails if its output can't be written."""
    return _command(function, acts=False)


def command(function: Callable[..., Exit]) -> Callable[..., None]:
    """Turn a function that returns an exit code into a command. A HarnessError becomes one message.

    A parameter whose type is a dataclass stands for its fields, each of which is an option: so several commands share a group of options.
    """
    return _command(function, acts=True)


def _command(function: Callable[..., Exit], *, acts: bool) -> Callable[..., None]:
    signature = inspect.signature(function, eval_str=True)
    groups: dict[str, Any] = {
        name: each.annotation for name, each in signature.parameters.items() if dataclasses.is_dataclass(each.annotation)
    }

    @functools.wraps(function)
    def run(**kwargs: Any) -> None:  # noqa: ANN401 - whatever the options are
        global _acted  # noqa: PLW0603 - one command runs in a process
        _acted = acts
        put_back = streams.keep()
        for name, group in groups.items():
            kwargs[name] = group(**{field.name: kwargs.pop(field.name) for field in dataclasses.fields(group)})
        try:
            code = function(**kwargs)
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

    parameters = [each for name, found in signature.parameters.items() for each in _options(groups.get(name), found)]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return run


def _options(group: Any, parameter: inspect.Parameter) -> list[inspect.Parameter]:  # noqa: ANN401 - a dataclass or None
    """The options that a parameter stands for: itself, or the fields of a group."""
    kind = inspect.Parameter.KEYWORD_ONLY
    if group is None:
        return [parameter.replace(kind=kind)]
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(field.name, kind, default=field.default, annotation=hints[field.name])
        for field in dataclasses.fields(group)
    ]


def say_error(message: str, code: Exit, *, as_json: bool) -> None:
    """Write an error as text, and with --json as JSON, too."""
    typer.echo("\n".join(f"harness: {line}" for line in sanitize(message).splitlines()), err=True)
    if as_json:
        say_json({"error": message, "exit": int(code)})


def say_json(content: Any) -> None:  # noqa: ANN401 - whatever JSON can say
    """Write one JSON object on stdout."""
    typer.echo(json.dumps(content, indent=1, allow_nan=False))
