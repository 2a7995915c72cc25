"""Structures that real models consist of, one module for each family; importing this package registers them all."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

for _, _name, _ in iter_modules(__path__):
    import_module(f"{__name__}.{_name}")
