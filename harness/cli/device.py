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
    help="Add a device, look at one, trust its host key, install onnxruntime on it, or end a job that was left there.",
    no_args_is_help=True,
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of a device in devices.toml.")]


@app.command("add")
@shared.command
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the device in devices.toml.")],
    host: Annotated[str, typer.Argument(metavar="HOST", help="[USER@]HOST[:PORT], or an alias of ~/.ssh/config.")],
    user: Annotated[str | None, typer.Option("--user", metavar="USER", help="The user to log in as. [default: as ssh]")] = None,
    port: Annotated[
        int | None, typer.Option("--port", metavar="PORT", min=1, max=65535, help="The port. [default: as ssh]")
    ] = None,
    identity_file: Annotated[
        Path | None,
        typer.Option(
            "--identity-file", metavar="FILE", help="The private key to log in with. [default: as ssh, with the SSH agent's keys]"
        ),
    ] = None,
    jump: Annotated[
        str | None, typer.Option("--jump", metavar="DEVICE", help="Connect through this device of devices.toml.")
    ] = None,
    password_env: Annotated[
        str | None, typer.Option("--password-env", metavar="VAR", help="The environment variable that holds the password.")
    ] = None,
    python: Annotated[
        str | None,
        typer.Option(
            "--python",
            metavar="PYTHON",
            help="The device's Python. [default: the first one with onnxruntime, or else the first one]",
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store", metavar="FOLDER", help="The folder of the device's store. [default: ~/.cache/quant-harness on the device]"
        ),
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="A tag, for --device @TAG; may be repeated.")
    ] = None,
    registry: shared.Registry = None,
    as_json: shared.Json = False,
) -> Exit:
    """Add a device to devices.toml: get its host key, log in, find its Python, and read what it is. No questions are asked.

    If your known_hosts has a host key for the device, only that key is accepted. A new key is shown, and trusted from now on.

    Exit code: 0 written, 2 wrong usage or the name is taken, 3 not reachable, login refused or no Python (nothing is written).
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
    """Show everything that a device reports about itself.

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
    replace: Annotated[bool, typer.Option("--replace", help="Trust the key even if another one was trusted before.")] = False,
    registry: shared.Registry = None,
    as_json: shared.Json = False,
) -> Exit:
    """Ask a device for its host key, show the fingerprint, and write the key to devices.toml.

    Exit code: 0 written, 2 wrong usage or input, 3 no answer, or another key was trusted before.
    """
    from harness.devices import registry_file

    known, device = registered.one(registry, name)
    if device.transport != "ssh":
        message = f"'{name}' has no host key, because it is not reached over SSH"
        raise UsageError(message)
    from harness.devices.transports.ssh import host_key

    key, fingerprint = host_key(device)
    if device.host_key is not None and device.host_key.split()[:2] != key.split() and not replace:
        reason = f"the device shows another host key than the trusted one ({fingerprint}); if the device was reinstalled: harness device trust {name} --replace"
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
        str | None,
        typer.Option(
            "--runtime", metavar="VERSION", help="The version of onnxruntime. [default: this machine's, or the newest that fits]"
        ),
    ] = None,
    wheelhouse: Annotated[
        Path | None, typer.Option("--wheelhouse", metavar="DIR", help="Take the wheels from this folder instead of pip's index.")
    ] = None,
    registry: shared.Registry = None,
    as_json: shared.Json = False,
) -> Exit:
    """Install onnxruntime and numpy on a device, which needs neither internet nor pip, and use them from now on.

    pip downloads the wheels that fit the device to this machine. They are sent once, unpacked and imported on the device. If the import
    fails there, an older version is tried.

    Exit code: 0 onnxruntime runs on the device, 2 wrong usage or input, 3 not reachable, or no version fits.
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
    """End the job on a device, whoever started it, for example one that was left behind.

    Only root and the account that runs a job can end it.

    Exit code: 0 the device is free, 2 wrong usage or input, 3 not reachable, 75 another account's job holds the device.
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
        typer.echo(f"{name}: {'the job was ended' if ended else 'no job was running'}")
    return Exit.PASSED


def _words(value: object) -> str:
    """A fact as text."""
    if isinstance(value, list):
        return " ".join(f"({_words(each)})" if isinstance(each, dict) else str(each) for each in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_words(inner)}" for key, inner in value.items() if inner is not None)
    return "–" if value is None else str(value)
