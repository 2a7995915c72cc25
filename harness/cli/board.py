"""harness board build|up|down|list."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from harness.cli import command as shared
from harness.errors import Exit, UsageError

app = typer.Typer(
    help="Build, start, list and stop virtual ARM boards, which QEMU emulates on this machine.", no_args_is_help=True
)

Folder = Annotated[
    Path | None,
    typer.Option(
        "--folder", metavar="DIR", envvar="HARNESS_BOARDS", help="The folder of the images. [default: in the user's cache]"
    ),
]
Cpu = Literal["cortex-a53", "cortex-a72", "cortex-a76", "neoverse-n1", "max"]
Clock = Literal["icount", "wall"]


@app.command("build")
@shared.command
def build(
    folder: Folder = None,
    mirror: Annotated[
        str | None,
        typer.Option("--mirror", metavar="URL", help="The Debian mirror to use. [default: the one of this machine's apt]"),
    ] = None,
    as_json: shared.Json = False,
) -> Exit:
    """Build the image that virtual boards boot. This takes about 4 minutes, once, and needs root. It can be interrupted and repeated.

    Exit code: 0 the image exists, 2 something is missing on this machine, 3 a step failed.
    """
    import time

    from harness.devices.boards import build as builds
    from harness.devices.boards import image as images
    from harness.devices.boards.prerequisites import check_build
    from harness.devices.boards.recipe import ImageRecipe

    start = time.monotonic()
    place = images.folder_of_images(folder)
    image, built = images.wanted(place, ImageRecipe()), False
    if not image.folder.is_dir():
        check_build(place)
        image, built = builds.build(place, lambda line: typer.echo(line, err=as_json), mirror)
    seconds, size, older = time.monotonic() - start, image.size, [str(other.folder) for other in images.others(image)]
    if as_json:
        shared.say_json({"image": str(image.folder), "built": built, "seconds": round(seconds, 1), "bytes": size, "older": older})
        return Exit.PASSED
    typer.echo(f"{image.folder}: {f'built in {seconds:.0f} s' if built else 'exists already'}, {size / 1e6:.0f} MB")
    for other in older:
        typer.echo(f"no longer used, you can delete it: {other}")
    typer.echo("next: harness board up NAME --cpu cortex-a53")
    return Exit.PASSED


@app.command("up")
@shared.command
def up(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the board in devices.toml.")],
    cpu: Annotated[Cpu, typer.Option("--cpu", help="The processor core to emulate.")],
    clock: Annotated[
        Clock,
        typer.Option(
            "--clock",
            help="icount: each instruction takes one nanosecond, so instructions can be counted; wall: faster, but counts nothing.",
        ),
    ] = "icount",
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="How long to wait for its login.", min=1)] = 180,
    folder: Folder = None,
    registry: shared.Registry = None,
    as_json: shared.Json = False,
) -> Exit:
    """Start a virtual board and write it to devices.toml. From then on it is a device like any other. Takes 5 to 10 seconds; needs no root.

    Exit code: 0 the board is up, 2 wrong usage or no image, 3 the board did not start.
    """
    import time

    from harness.devices.boards import image as images
    from harness.devices.boards import lifecycle

    start = time.monotonic()
    board = lifecycle.up(name, cpu, clock, images.find(folder), registry, timeout)
    if as_json:
        shared.say_json({**board.as_json(), "seconds": round(time.monotonic() - start, 1)})
    else:
        typer.echo(
            f"{name}: up after {time.monotonic() - start:.0f} s: {cpu}, {clock} clock, 127.0.0.1:{board.port}\n"
            f"written to {board.registry}; harness device probe {name}; harness board down {name}"
        )
    return Exit.PASSED


@app.command("down")
@shared.command
def down(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", help="All boards of this user.")] = False,
    as_json: shared.Json = False,
) -> Exit:
    """Stop virtual boards, and remove their processes, files, keys and entries in devices.toml.

    Exit code: 0 stopped and removed, 2 no such board, 3 a board does not stop.
    """
    from harness.devices.boards import board as boards
    from harness.devices.boards import lifecycle

    if not names and not everything:
        message = "give the names of boards, or --all"
        raise UsageError(message)
    chosen = boards.names() if everything else [boards.find(name) for name in dict.fromkeys(names or [])]
    for name in chosen:
        lifecycle.down(name)
        if not as_json:
            typer.echo(f"{name}: down")
    if as_json:
        shared.say_json({"down": chosen})
    return Exit.PASSED


@app.command("list")
@shared.showing
def list_boards(as_json: shared.Json = False) -> Exit:
    """List the virtual boards: up, starting, dead (the emulator has ended) or stale (only files are left).

    Exit code: 0 shown, 2 wrong usage.
    """
    from harness.cli.grid import console, grid
    from harness.devices.boards import board as boards

    found = {name: boards.load(name) for name in boards.names()}
    if as_json:
        shared.say_json(
            {"boards": [board.as_json() if board else {"name": name, "state": "stale"} for name, board in found.items()]}
        )
        return Exit.PASSED
    if not found:
        typer.echo("no virtual board is up; to start one: harness board up NAME --cpu cortex-a53")
        return Exit.PASSED
    rows = []
    for name, board in found.items():
        cells = (
            [board.cpu, board.clock, str(board.port or ""), str(board.pid or ""), board.state, str(board.registry)]
            if board
            else []
        )
        rows.append([name, *(cells or ["", "", "", "", "stale", ""])])
    console().print(grid(["board", "cpu", "clock", "port", "pid", "state", "entered in"], rows))
    return Exit.PASSED
