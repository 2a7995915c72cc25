"""harness baseline save|list."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli import command as shared
from harness.cli.check import BASELINES, Baselines
from harness.errors import Exit, ResultsError, UsageError

app = typer.Typer(
    help="Save a run as a baseline that later builds are compared with, or list the saved ones.", no_args_is_help=True
)


@app.command("save")
@shared.command
def save(
    run: shared.RunName,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the baseline, such as 2.3.")],
    baselines: Baselines = BASELINES,
    force: Annotated[bool, typer.Option("--force", help="Replace a saved baseline of the same name.")] = False,
    results: shared.Results = shared.RESULTS,
    as_json: shared.Json = False,
) -> Exit:
    """Save a run as a baseline: a small file for git. The run's models are kept on this machine, by their hash.

    Exit code: 0 saved, 2 wrong usage or input.
    """
    import re

    from harness import paths
    from harness.records import baseline_file
    from harness.workflow.baselines import of_run
    from harness.workflow.results import read_run

    if name == "latest" or name.endswith((".onnx", ".json")):
        message = f"'{name}' can't be the name of a baseline, because --baseline {name} has another meaning; choose another name"
        raise UsageError(message)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", name):
        message = f"a baseline's name has at most 100 letters, digits, '.', '_', '+' or '-', and begins with a letter or digit; this one is {name!r:.120}"
        raise UsageError(message)
    path = baselines / f"{name}{baseline_file.SUFFIX}"
    if path.exists() and not force:
        message = f"{path}: a baseline '{name}' exists already; to replace it: --force"
        raise UsageError(message)
    folder, judgement = read_run(run, results)
    found = judgement.run
    if found.state != "complete" or not any(row.state == "measured" for table in judgement.tables for row in table.rows):
        message = f"{folder}: the run is {found.state if found.state != 'complete' else 'without a measured case'}; only a complete run can be a baseline"
        raise UsageError(message)
    taken = baseline_file.of_folder(of_run(judgement, name), folder)
    quiet = sorted(device for device, stored in taken.devices.items() if stored.noise is None)
    added = baseline_file.save(taken, path, paths.models())
    said: dict[str, object] = {
        "baseline": name,
        "file": str(path),
        "run": found.id,
        "variants": len(taken.variants),
        "models_added": added,
    }
    if quiet:
        said["without_noise"] = quiet
        message = (
            f"note: no noise is stored for {', '.join(quiet)}, so a gate can't tell whether the device has become noisier: "
            "noise comes from pairs of fp32 and a variant, and this run has too few of them"
        )
        shared.say_error(message, Exit.PASSED, as_json=False)
    if as_json:
        shared.say_json({**said, "models": str(paths.models())})
    else:
        typer.echo(
            f"baseline '{name}' of run {found.id}: {path}, {len(taken.variants)} variant{'' if len(taken.variants) == 1 else 's'}; models are kept in {paths.models()}"
        )
    return Exit.PASSED


@app.command("list")
@shared.showing
def list_(baselines: Baselines = BASELINES, as_json: shared.Json = False) -> Exit:
    """List the saved baselines.

    Exit code: 0 shown, even if there are none, 2 wrong usage, or a baseline can't be read.
    """
    from harness import paths
    from harness.cli.grid import console, grid
    from harness.records import baseline_file

    found = []
    code = Exit.PASSED
    for path in sorted(baselines.glob(f"*{baseline_file.SUFFIX}")):
        try:
            each = baseline_file.read(path)
        except ResultsError as exc:
            shared.say_error(str(exc), exc.exit, as_json=False)
            code = exc.exit
            continue
        here = sum((paths.models() / f"{variant.sha256}.onnx").is_file() for variant in each.variants)
        found.append(
            {
                "baseline": path.stem,
                "run": each.run,
                "taken": each.taken.isoformat() if each.taken else None,
                "variants": len(each.variants),
                "models_here": here,
                "devices": list(each.devices),
            }
        )
    if as_json:
        shared.say_json(found)
    elif not found:
        typer.echo(f"no baselines in {baselines}; to save one: harness baseline save RUN NAME")
    else:
        titles = ["baseline", "run", "taken", "variants", "models here", "devices"]
        rows = [[", ".join(value) if isinstance(value, list) else str(value) for value in each.values()] for each in found]
        console().print(grid(titles, rows))
    return code
