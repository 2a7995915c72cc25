"""A user's Python function: found by ``module:callable`` or ``file.py:callable``, and its faults told as data errors."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import DataError, HarnessError
from harness.study.toml_file import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType


def find(source: str) -> Callable[..., Any]:
    """Import a callable; its module is a file, or is looked for in the working folder and where Python looks.

    Raises:
        DataError: if it can't be imported, or is not there.
    """
    module_name, _, name = source.rpartition(":")
    try:
        module = _of_file(Path(module_name)) if module_name.endswith(".py") else _of_name(module_name)
    except Exception as exc:
        message = f"{source}: module '{module_name}' can't be imported: {type(exc).__name__}: {exc}"
        raise DataError(message) from exc
    function = getattr(module, name, None)
    if not callable(function):
        own = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        message = f"{source}: {module.__file__} has no callable '{name}'; {nearest(name, own) if own else 'it has none at all'}"
        raise DataError(message)
    found: Callable[..., Any] = function
    return found


@contextmanager
def blamed(source: str) -> Iterator[None]:
    """Turn what a user's code raises into a data error that names it.

    Raises:
        DataError: if the code inside raises.
    """
    try:
        yield
    except HarnessError:
        raise
    except Exception as exc:
        at = exc.__traceback__
        while at is not None and at.tb_next is not None:
            at = at.tb_next
        place = f" (line {at.tb_lineno} of {at.tb_frame.f_code.co_filename})" if at else ""
        message = f"{source}: raised {type(exc).__name__}: {exc}{place}"
        raise DataError(message) from exc


def _of_name(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    return importlib.import_module(name)


def _of_file(path: Path) -> ModuleType:
    """Import a file under a name that no other file's module has; its neighbours can be imported by it."""
    path = path.resolve()
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    name = f"{path.stem}@{path}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        message = f"no such file: {path}"
        raise ModuleNotFoundError(message)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
