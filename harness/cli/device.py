"""harness device add|probe|trust|provision|release."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import command as shared
from harness.cli import known as registered
from harness.errors import Exit, HostKeyError, UsageError
from harness.text import sanitize

app = typer.Typer(
    help="Add a device, look at one, trust its host key, bring onnxruntime to it, or end a job that was left there.",
    no_args_is_help=True,
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="As in devices.toml.")]


@app.command("add")
@shared.command
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="For devices.toml.")],
    host: Annotated[str, typer.Argument(metavar="HOST", help="[USER@]HOST[:PORT], or an alias of ~/.ssh/config.")],
    user: Annotated[str | None, typer.Option("--user", metavar="USER", help="Who logs in; by default as ssh does.")] = None,
    port: Annotated[int | None, typer.Option("--port", metavar="PORT", min=1, max=65535, help="By default as ssh does.")] = None,
    identity_file: Annotated[
        Path | None,
        typer.Option("--identity-file", metavar="FILE", help="A private key; by default the agent's, and as ssh does."),
    ] = None,
    jump: Annotated[str | None, typer.Option("--jump", metavar="DEVICE", help="Go through this device of devices.toml.")] = None,
    password_env: Annotated[
        str | None, typer.Option("--password-env", metavar="VAR", help="The variable that holds the password.")
    ] = None,
    python: Annotated[
        str | None,
        typer.Option(
            "--python", metavar="PYTHON", help="Its Python; by default the first that has onnxruntime, or else the first."
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option("--store", metavar="FOLDER", help="Where its store is; by default ~/.cache/quant-harness there."),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="For --device @TAG; may be repeated.")] = None,
    registry: shared.Registry = None,
    as_json: shared.Json = False,
) -> Exit:
    """Add a device to devices.toml: get its host key, log in, find a Python and ask what it is. Nothing is asked of you.

    A host key that your known_hosts has must be the one shown; one that is new is shown and trusted from now on.
    Exit code: 0 written, 2 wrong usage or the name is taken, 3 not reachable, login refused or no Python; nothing is written then.
    """
    from harness.devices import add as adding
    from harness.devices.probe import Answer

    file, known = adding.place(registry)
    adding.refuse_taken(known, name)
    keys: dict[str, object] = {
        "user": user,
        "port": port,
        "jump": jump,
        "password_env": password_env,
        "python": python,
        "store": store,
        "tags": tag or None,
    }
    if identity_file is not None:
        # devices.toml may be read from another folder.
        keys["identity_file"] = identity_file if str(identity_file).startswith("~") else identity_file.absolute()
    registered.warn(known, [name])
    device = adding.entry(name, host, **keys)
    done = adding.add(device, file, known, lambda line: typer.echo(f"{name}: {line}", err=as_json))
    if as_json:
        shared.say_json(done.as_json())
        return Exit.PASSED
    answer = Answer(done.device, done.facts, None)
    typer.echo(f"{name}: {sanitize(answer.sentence())}\n{name}: written to {done.path}\nnext: {done.next}")
    return Exit.PASSED


@app.command("probe")
@shared.showing
def probe(name: Name, registry: shared.Registry = None, as_json: shared.Json = False) -> Exit:
    """Show everything that a device says of itself.

    Exit code: 0 reachable, 2 wrong usage or input, 3 not reachable.
    """
    from harness.cli.grid import console, grid
    from harness.devices import probe as probes

    answer = probes.probe(registered.one(registry, name)[1])
    if as_json:
        shared.say_json(answer.as_json())
    elif answer.facts is not None:
        rows = [[key, _words(value)] for key, value in answer.facts.model_dump(mode="json").items()]
        console().print(grid(["fact", ""], rows))
    if answer.error is None:
        return Exit.PASSED
    shared.say_error(str(answer.error), answer.error.exit, as_json=False)
    return answer.error.exit


@app.command("trust")
@shared.command
def trust(
    name: Name,
    replace: Annotated[bool, typer.Option("--replace", help="Trust the key although another one was trusted before.")] = False,
    registry: shared.Registry = None,
    as_json: shared.Json = False,
) -> Exit:
    """Ask a device for its host key, show the fingerprint, and write the key to devices.toml.

    Exit code: 0 written, 2 wrong usage or input, 3 no answer, or another key was trusted before.
    """
    from harness.devices import registry_file

    known, device = registered.one(registry, name)
    if device.transport != "ssh":
        message = f"'{name}' is not reached over SSH: it has no host key"
        raise UsageError(message)
    from harness.devices.transports.ssh import host_key

    key, fingerprint = host_key(device)
    if device.host_key is not None and device.host_key.split()[:2] != key.split() and not replace:
        reason = f"it shows another key than the one trusted ({fingerprint}); if it was installed anew: harness device trust {name} --replace"
        raise HostKeyError(name, "trust", reason)
    registry_file.write_key(known, name, host_key=key)
    if as_json:
        shared.say_json({"device": name, "host_key": key, "fingerprint": fingerprint})
    else:
        typer.echo(
            f"{name}: {key.split()[0]} {fingerprint}\nwritten to {known.path}; compare the fingerprint with the device's own"
        )
    return Exit.PASSED


@app.command("provision")
@shared.command
def provision(
    name: Name,
    runtime: Annotated[
        str | None, typer.Option("--runtime", metavar="VERSION", help="onnxruntime's. [default: this machine's, or what fits]")
    ] = None,
    wheelhouse: Annotated[
        Path | None, typer.Option("--wheelhouse", metavar="DIR", help="Take wheels from this folder, not from pip's index.")
    ] = None,
    registry: shared.Registry = None,
    as_json: shared.Json = False,
) -> Exit:
    """Bring onnxruntime and numpy to a device that needs neither internet nor pip, and use them there from now on.

    The wheels that fit are downloaded here with pip, pushed once, unpacked and imported there. Where the import dies, an older
    version is tried.

    Exit code: 0 it runs there, 2 wrong usage or input, 3 not reachable, or nothing fits.
    """
    from harness.devices.provisioning import provision as provisions

    _, device = registered.one(registry, name)
    done = provisions.provision(device, runtime, wheelhouse, lambda line: typer.echo(f"{name}: {line}", err=True))
    if as_json:
        shared.say_json(done.as_json())
    else:
        what = f"onnxruntime {done.onnxruntime} and numpy {done.numpy}"
        typer.echo(f"{name}: runs {what} from now on (runtime {done.runtime[:12]}, {done.seconds:.1f} s)")
    return Exit.PASSED


@app.command("release")
@shared.command
def release(name: Name, registry: shared.Registry = None, as_json: shared.Json = False) -> Exit:
    """End the job that is measured on a device, whoever started it: for one that was left behind.

    A job that another account of the device runs can be ended by that account and by root only.

    Exit code: 0 it is free, 2 wrong usage or input, 3 not reachable, 75 it is held by another account.
    """
    from harness.devices.link import Link

    _, device = registered.one(registry, name)
    link = Link(device)
    try:
        ended = link.end_job()
    finally:
        link.close()
    if as_json:
        shared.say_json({"device": name, "ended": ended})
    else:
        typer.echo(f"{name}: {'its job was ended' if ended else 'no job was there'}")
    return Exit.PASSED


def _words(value: object) -> str:
    """A fact as text."""
    if isinstance(value, list):
        return " ".join(f"({_words(each)})" if isinstance(each, dict) else str(each) for each in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_words(inner)}" for key, inner in value.items() if inner is not None)
    return "–" if value is None else str(value)
