"""Programs for devices: modules of runners/ put into one text, so that a device needs nothing but its Python to run them."""

from __future__ import annotations

import ast
import hashlib
import os
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from harness import files, paths

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.devices.device import Device

# Bytes: the device's Python may take text for another encoding than UTF-8.
SETTINGS = """\
import os as _os
_os.environb.update({{name.encode(): value.encode() for name, value in {given!a}.items()}})
for _name in {cleared!a}:
    _os.environb.pop(_name.encode(), None)
"""
# A module is compiled when it is imported: a small board compiles no more than it runs.
LOADER = """\
import sys as _sys
class _Packed:
    texts = {modules!r}
    def find_spec(self, name, path=None, target=None):
        return type(_sys.__spec__)(name, self) if name in self.texts else None
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        exec(compile(self.texts[module.__name__], module.__name__ + ".py", "exec"), module.__dict__)
_sys.meta_path.insert(0, _Packed())
exec(compile({main!r}, {name!r} + ".py", "exec"))
"""
# The imports of a module, but for those that only the type checker reads.
FOR_TYPES = re.compile(r"^if TYPE_CHECKING:\n(?:(?:    .*)?\n)+", re.MULTILINE)
IMPORTED = re.compile(r"^ *(?:import|from) (\w+)", re.MULTILINE)
COMMANDS = re.compile(r"^COMMANDS = (\{.*?\})", re.MULTILINE | re.DOTALL)


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
    return pack("agent", commands()[command])


@cache
def commands() -> dict[str, str]:
    """The commands of the agent, with the module that each is in."""
    found = COMMANDS.search(_text("agent", "agent"))
    assert found is not None  # noqa: S101 - for the type checker
    return dict(ast.literal_eval(found[1]))


def settings(device: Device) -> dict[str, str | None]:
    """What the agent of a device is told, as variables of its environment; None clears one that the account may have set."""
    own = device.transport == "local" and device.python is None
    return {"QUANT_HARNESS_PATH": os.pathsep.join(_own_packages()) if own else None, "QUANT_HARNESS_STORE": device.store}


@cache
def _own_packages() -> list[str]:
    """Where this process finds numpy and onnxruntime, whatever led it there."""
    specs = [find_spec(name) for name in ("numpy", "onnxruntime")]
    return list(dict.fromkeys(str(Path(spec.origin).parent.parent) for spec in specs if spec is not None and spec.origin))


def job() -> Path:
    """The job, as a file that can be pushed."""
    return _file("job")


def runner() -> Path:
    """The runner, as a file that can be pushed."""
    return _file("ort_runner")


def prober() -> Path:
    """The prober, as a file that can be pushed."""
    return _file("prober")


@cache
def _file(name: str) -> Path:
    content = pack(name)
    path = paths.programs() / f"{name}-{hashlib.sha256(content).hexdigest()[:16]}.py"
    if not path.exists() or path.read_bytes() != content:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write_bytes(path, content)
    return path


def pack(program: str, *more: str) -> bytes:
    """Put a program of runners/ into one text: its main module, which has the program's name, and every module that this imports.

    Args:
        program: the program's folder.
        more: modules that the program imports by a name that is known only when it runs.
    """
    main = _text(program, program)
    modules: dict[str, str] = {}
    left = [*_imported(main), *more]
    while left:
        name = left.pop()
        if name not in modules and (text := _text(program, name)):
            modules[name] = text
            left += _imported(text)
    return LOADER.format(modules=dict(sorted(modules.items())), main=main, name=program).encode()


def _text(program: str, module: str) -> str:
    """The source of a program's module, of its own or one that programs share; empty for a module of the standard library."""
    places = (paths.RUNNERS / folder / f"{module}.py" for folder in (program, "shared"))
    return next((path.read_text(encoding="utf-8") for path in places if path.is_file()), "")


def _imported(source: str) -> list[str]:
    return IMPORTED.findall(FOR_TYPES.sub("", source))
