"""What a method is, and the registry: a new method is one module in ``methods/`` and one line in ``MODULES`` (harness/study/specs.py)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from harness.study import specs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from onnx import ModelProto

    from harness.quantize.model.outline import Node, Summary
    from harness.quantize.platform import PlatformRule
    from harness.quantize.recipe import Recipe
    from harness.quantize.rule import Rule

    # Recipe, build context, path → notes. What the context is made of uses methods, so that its type can't be imported here.
    Make = Callable[[Recipe, Any, Path], tuple[str, ...]]


def _works_on_none(_recipe: Recipe, _node: Node, _opset: int) -> bool:
    return False


def _any_type(_recipe: Recipe) -> frozenset[str]:
    return frozenset()


def _same_size(_recipe: Recipe, model: Summary) -> int:
    return model.size


def _nothing_differs(_recipe: Recipe, _model: ModelProto) -> list[str]:
    return []


@dataclass(frozen=True)
class Tool:
    """onnxruntime's quantizer behind a method. If it fails at a node, the variant is made again with that node in float.

    Attributes:
        name: of the function or class, for messages.
        instead: names the methods or formats that may do where it fails.
    """

    name: str
    instead: Callable[[Recipe], str]


@dataclass(frozen=True)
class Method:
    """How variants of one kind are made, and what is known of them before and after.

    Attributes:
        spec: the keys of ``[[variant]]`` that apply, and what kind of method it is.
        make: writes a variant's file and returns notes; its arguments are the recipe, the build context and the path.
        op_types: the operators that a recipe works on; empty means any.
        works_on: whether a recipe changes a node of these types, in a model of an operator set.
        size: estimates the size of the file, in bytes.
        differences: sentences on what a file holds other than its recipe says.
        tool: whose failures are looked into, node by node; None for none.
        constraints: rules of this method alone that make a recipe impossible; likewise caveats and platform_rules.
    """

    spec: type[specs.VariantSpec]
    make: Make
    op_types: Callable[[Recipe], frozenset[str]] = _any_type
    works_on: Callable[[Recipe, Node, int], bool] = _works_on_none
    size: Callable[[Recipe, Summary], int] = _same_size
    differences: Callable[[Recipe, ModelProto], list[str]] = _nothing_differs
    tool: Tool | None = None
    constraints: tuple[Rule, ...] = ()
    caveats: tuple[Rule, ...] = ()
    platform_rules: tuple[PlatformRule, ...] = ()

    @property
    def name(self) -> str:
        """As ``method`` in a study says it."""
        name: str = self.spec.model_fields["method"].default
        return name


_REGISTERED: dict[str, Method] = {}


def register(method: Method) -> Method:
    """Make a method known, so that studies can ask for it.

    Raises:
        ValueError: if another method has its name.
    """
    specs.register(method.spec)
    _REGISTERED[method.name] = method
    return method


def named(name: str) -> Method:
    """The method of that name, which there must be."""
    if name not in _REGISTERED:
        import_module(specs.MODULES[name])
    return _REGISTERED[name]


def method_of(recipe: Recipe) -> Method:
    """The method of a recipe."""
    return named(recipe.method)
