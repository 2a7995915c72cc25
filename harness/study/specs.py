"""What is known of a method before anything is made: the keys of its ``[[variant]]``, and what kind of method it is.

Everything that lists keys is derived from these classes: the crossed lists of ``[variants]``, recipes and their names, the traits of
claims, and the proposals of ``harness debug``.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import AfterValidator, ModelWrapValidatorHandler, SerializeAsAny, model_validator

from harness.study.keys import Name
from harness.study.toml_file import Section, nearest

# By the name of the method, in the order in which variants are listed.
SPECS: dict[str, type[VariantSpec]] = {}
# The registry of methods: the module of each, which registers it when it is imported. That is when the method is first needed, because the
# modules import onnxruntime's tools. The specs of the methods that come with the harness are in variants.py, so that a study is read without.
MODULES = {
    "fp32": "harness.quantize.methods.float32",
    "prepared": "harness.quantize.methods.prepared",
    "fp16": "harness.quantize.methods.float16",
    "dynamic": "harness.quantize.methods.dynamic",
    "static": "harness.quantize.methods.static",
    "nbits": "harness.quantize.methods.nbits",
    "given": "harness.quantize.methods.given",
}


def _known(method: str) -> str:
    """Refuse what is not a method."""
    spec_of(method)
    return method


MethodName = Annotated[str, AfterValidator(_known)]


@dataclass(frozen=True)
class Crossed:
    """Marks a key of ``[[variant]]``: the list of ``[variants]`` with its values."""

    by: str


class VariantSpec(Section):
    """``[[variant]]``: one more, spelled out. Validation gives an instance of the method's own class.

    Attributes:
        shown: keys that a proposal writes even if they have their usual values.
        incomparable: keys that say nothing about a difference from a recipe of another method.
        is_copied: the file is the user's own, as it is.
        is_prepared: it is made of the prepared model.
        has_ranges: it needs the calibrated ranges of activations.
        is_quantized: numbers become integers.
        is_reduced: numbers become integers or half precision.
    """

    shown: ClassVar[tuple[str, ...]] = ()
    incomparable: ClassVar[frozenset[str]] = frozenset()
    is_copied: ClassVar[bool] = False
    is_prepared: ClassVar[bool] = True
    has_ranges: ClassVar[bool] = False
    is_quantized: ClassVar[bool] = False
    is_reduced: ClassVar[bool] = False

    name: Name | None = None
    method: MethodName

    @model_validator(mode="wrap")
    @classmethod
    def _of_its_method(cls, value: Any, handler: ModelWrapValidatorHandler[VariantSpec]) -> VariantSpec:  # noqa: ANN401 - any input
        """Validate with the class of the method that the table names."""
        if cls is not VariantSpec or not isinstance(value, dict):
            return handler(value)
        method = value.get("method")
        if not isinstance(method, str) or method not in methods():
            # The method is what is wrong; which of the other keys are right depends on it.
            return handler({key: each for key, each in value.items() if key in cls.model_fields})
        spec = spec_of(method)
        elsewhere = sorted(key for key in set(value) & set(all_keys()) if key not in spec.model_fields)
        if elsewhere:
            takes = ", ".join(spec.own_keys()) or "none"
            name = f"{value['name']}: " if value.get("name") else ""
            have = "has" if len(elsewhere) == 1 else "have"
            message = f"{name}{', '.join(elsewhere)} {have} no effect with {method}; the keys for {method} are: {takes}"
            raise ValueError(message)
        return spec.model_validate(value)

    @classmethod
    def own_keys(cls) -> tuple[str, ...]:
        """The keys that apply to the method, beside its name and the method."""
        return tuple(key for key in cls.model_fields if key not in {"name", "method"})

    @classmethod
    def known_keys(cls) -> tuple[str, ...]:
        """The keys that may stand in the table; those of all methods where the method is not known yet."""
        return ("name", "method", *all_keys()) if cls is VariantSpec else tuple(cls.model_fields)

    def values(self) -> dict[str, Any]:
        """The values of the keys; None for one that has no effect beside the others."""
        return {key: getattr(self, key) for key in self.own_keys()}

    def words(self) -> tuple[str | None, ...]:
        """What a variant's name says after the method, before what is the same for all methods; None says nothing."""
        return ()


AnyVariantSpec = SerializeAsAny[VariantSpec]


def register(spec: type[VariantSpec]) -> type[VariantSpec]:
    """Make a method known under the name that its field ``method`` has as default; a class decorator.

    Raises:
        ValueError: if another class has that name.
    """
    method = spec.model_fields["method"].default
    if SPECS.setdefault(method, spec) is not spec:
        message = f"there are two methods called '{method}'"
        raise ValueError(message)
    return spec


def methods() -> tuple[str, ...]:
    """The names of all methods, in the order in which variants are listed."""
    return tuple(dict.fromkeys((*SPECS, *MODULES)))


def spec_of(method: str) -> type[VariantSpec]:
    """The class of a method.

    Raises:
        ValueError: if there is no such method; it names the nearest.
    """
    if method not in methods():
        message = f"'{method}' is not a method; {nearest(method, methods())}"
        raise ValueError(message)
    if method not in SPECS:
        import_module(MODULES[method])
    return SPECS[method]


def variant_spec(**fields: Any) -> VariantSpec:  # noqa: ANN401 - validation checks each
    """A ``[[variant]]`` as Python writes it: ``variant_spec(method="static", weight="QInt8")``."""
    return VariantSpec.model_validate(fields)


def all_keys() -> tuple[str, ...]:
    """The keys of all methods, each once."""
    return tuple(dict.fromkeys(key for method in methods() for key in spec_of(method).own_keys()))


def choices(key: str) -> tuple[object, ...]:
    """The values that a key can have, over all methods; empty where anything goes."""
    if key == "method":
        return methods()
    found: dict[object, None] = {}
    for spec in map(spec_of, methods()):
        if key in spec.model_fields:
            annotation = spec.model_fields[key].annotation
            found |= dict.fromkeys((True, False) if annotation is bool else _literals(annotation))
    return tuple(found)


def _literals(annotation: Any) -> tuple[object, ...]:  # noqa: ANN401 - an annotation has no narrower type
    return get_args(annotation) if getattr(annotation, "__origin__", None) is Literal else ()
