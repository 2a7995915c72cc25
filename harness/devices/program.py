"""Programs for devices: modules of runners/ put into one text, so that a device needs nothing but its Python to run them."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import TYPE_CHECKING

from harness import places

if TYPE_CHECKING:
    from pathlib import Path

# What each command of the agent takes, in the order of their imports: a small board compiles no more than it runs.
MODULES = {
    "receive": ("store", "room", "delivery"),
    **dict.fromkeys(("machine", "unpack", "adopt", "probe"), ("store", "runtimes")),
    **dict.fromkeys(("start", "has", "holder", "follow", "read", "stop", "release"), ("store", "runtimes", "jobs")),
}
JOB_MODULES = ("governor", "lease", "precision")
LOADER = """\
import sys as _sys, types as _types
for _name, _text in {modules!r}:
    _module = _sys.modules[_name] = _types.ModuleType(_name)
    exec(compile(_text, _name + ".py", "exec"), _module.__dict__)
exec(compile({main!r}, "main.py", "exec"))
"""


@cache
def agent(command: str) -> bytes:
    """The agent's program with what a command takes."""
    return pack(places.AGENT, MODULES[command])


@cache
def job() -> Path:
    """The job's program as a file that can be pushed."""
    content = pack(places.JOB, JOB_MODULES)
    path = places.programs() / f"job-{hashlib.sha256(content).hexdigest()[:16]}.py"
    if not path.exists() or path.read_bytes() != content:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = path.with_suffix(f".{id(content)}.new")
        beside.write_bytes(content)
        beside.replace(path)
    return path


def pack(folder: Path, modules: tuple[str, ...]) -> bytes:
    """Put modules of a folder and the one that is called like it into one text, in which that one runs."""
    texts = [(name, (folder / f"{name}.py").read_text(encoding="utf-8")) for name in modules]
    main = (folder / f"{folder.name}.py").read_text(encoding="utf-8")
    return LOADER.format(modules=texts, main=main).encode()
