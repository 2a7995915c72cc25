"""Programs for devices: modules of runners/ put into one text, so that a device needs nothing but its Python to run them."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from harness import paths

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.devices.device import Device

# What each command of the agent takes, in the order of their imports: a small board compiles no more than it runs.
MODULES = {
    "receive": ("place", "store", "room", "delivery"),
    **dict.fromkeys(("machine", "unpack", "adopt"), ("place", "store", "packages", "runtimes")),
    "probe": ("place", "store", "machine_lease", "packages", "runtimes"),
    **dict.fromkeys(
        ("start", "has", "holder", "follow", "read", "stop", "release"),
        ("place", "store", "machine_lease", "packages", "runtimes", "jobs"),
    ),
}
JOB_MODULES = ("child", "governor", "machine_lease", "lease", "precision")
# Bytes: the device's Python may take text for another encoding than UTF-8.
SETTINGS = """\
import os as _os
_os.environb.update({{name.encode(): value.encode() for name, value in {given!a}.items()}})
for _name in {cleared!a}:
    _os.environb.pop(_name.encode(), None)
"""
LOADER = """\
import sys as _sys, types as _types
for _name, _text in {modules!r}:
    _module = _sys.modules[_name] = _types.ModuleType(_name)
    exec(compile(_text, _name + ".py", "exec"), _module.__dict__)
exec(compile({main!r}, "main.py", "exec"))
"""


def agent(command: str, settings: Mapping[str, str | None]) -> bytes:
    """The agent's program with what a command takes.

    Args:
        command: one of the agent's.
        settings: environment variables for it, as :func:`settings` gives them.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    return SETTINGS.format(given=given, cleared=sorted(set(settings) - set(given))).encode() + _agent(command)


@cache
def _agent(command: str) -> bytes:
    return pack(paths.AGENT, MODULES[command])


def settings(device: Device) -> dict[str, str | None]:
    """What the agent of a device is told, as variables of its environment; None clears one that the account may have set."""
    own = device.transport == "local" and device.python is None
    return {"QUANT_HARNESS_PATH": os.pathsep.join(_own_packages()) if own else None, "QUANT_HARNESS_STORE": device.store}


@cache
def _own_packages() -> list[str]:
    """Where this process finds numpy and onnxruntime, whatever led it there."""
    specs = [find_spec(name) for name in ("numpy", "onnxruntime")]
    return list(dict.fromkeys(str(Path(spec.origin).parent.parent) for spec in specs if spec is not None and spec.origin))


@cache
def job() -> Path:
    """The job's program as a file that can be pushed."""
    content = pack(paths.JOB, JOB_MODULES)
    path = paths.programs() / f"job-{hashlib.sha256(content).hexdigest()[:16]}.py"
    if not path.exists() or path.read_bytes() != content:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = path.with_suffix(f".{id(content)}.new")
        beside.write_bytes(content)
        beside.replace(path)
    return path


def pack(folder: Path, modules: tuple[str, ...]) -> bytes:
    """Put modules of a folder, or of the agent's, and the one that is called like the folder into one text, in which that one runs."""
    places_of = {name: folder if (folder / f"{name}.py").exists() else paths.AGENT for name in modules}
    texts = [(name, (places_of[name] / f"{name}.py").read_text(encoding="utf-8")) for name in modules]
    main = (folder / f"{folder.name}.py").read_text(encoding="utf-8")
    return LOADER.format(modules=texts, main=main).encode()
