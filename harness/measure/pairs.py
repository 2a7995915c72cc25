"""Which cases are measured side by side: every one with its fp32, with itself under another runtime, and the pairs that claims name."""

from __future__ import annotations

from itertools import product
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.measure.plan import Case
    from harness.quantize.recipe import Recipe, Variant
    from harness.study.claims_and_gate import ClaimSection

REFERENCE = "fp32"
# Marks the names of a baseline's variants.
BASELINE = "baseline:"
# Spelled as JSON in a recipe, and as a table in a claim.
OPTIONS: Mapping[str, Literal["extra", "calibration"]] = {"extra_options": "extra", "calibration_options": "calibration"}
# The ids of two cases that are measured side by side: the first is what the second is compared with. A case without a partner stands alone.
Pair = tuple[str, ...]


def units(cases: Sequence[Case], variants: Mapping[str, Variant], claims: Sequence[ClaimSection] = ()) -> tuple[Pair, ...]:
    """Pair the cases; one that has no partner is measured alone.

    Args:
        cases: all of a campaign.
        variants: by name.
        claims: whose sets are matched: pairs that differ in nothing else.

    Returns:
        Ids of cases. Of a pair the first is what the second is compared with: fp32, or a claim's ``than``.
    """
    found: dict[Pair, None] = {}
    for case in cases:
        base = next((other for other in cases if other.variant == REFERENCE and settings(other) == settings(case)), None)
        if base is not None and base.id != case.id:
            found[base.id, case.id] = None
    # A version of onnxruntime against the first one, variant by variant.
    first = cases[0].runtime if cases else None
    for one, other in product(cases, cases):
        if one.variant == other.variant and one.runtime == first != other.runtime and _but_runtime(one) == _but_runtime(other):
            found[one.id, other.id] = None
    for claim in claims:
        for unit in claimed(claim, cases, variants):
            if unit not in found and unit[::-1] not in found:
                found[unit] = None
    paired = {name for unit in found for name in unit}
    return (*found, *((case.id,) for case in cases if case.id not in paired))


def contests(cases: Sequence[Case], baselines: Mapping[str, str]) -> tuple[Pair, ...]:
    """Pair each candidate case with its baseline's.

    Args:
        cases: of both.
        baselines: a candidate's variant → the baseline's; the same one where only the runtime differs, whose first version is the candidate's.
    """
    found = []
    for candidate, base in product(cases, cases):
        if baselines.get(candidate.variant) != base.variant:
            continue
        if base.variant != candidate.variant and settings(base) == settings(candidate):
            found.append((base.id, candidate.id))
        same = base.variant == candidate.variant and _but_runtime(base) == _but_runtime(candidate)
        if same and candidate.runtime == cases[0].runtime != base.runtime:
            found.append((base.id, candidate.id))
    return tuple(found)


def settings(case: Case) -> tuple[Any, ...]:
    """What a case has beside its variant."""
    return (*_but_runtime(case), case.runtime)


def _but_runtime(case: Case) -> tuple[Any, ...]:
    return (case.threads, case.provider, case.optimization, case.dims)


def claimed(claim: ClaimSection, cases: Sequence[Case], variants: Mapping[str, Variant]) -> list[Pair]:
    """Match a claim's two sets: cases that differ in nothing but what the sets say."""
    if claim.than is None:
        return []
    named = {*claim.subject, *claim.than}
    first = [case for case in cases if matches(variants[case.variant], claim.than)]
    second = [case for case in cases if matches(variants[case.variant], claim.subject)]
    return [
        (one.id, other.id)
        for one, other in product(first, second)
        if one.id != other.id
        and settings(one) == settings(other)
        and _alike(variants[one.variant].recipe, variants[other.variant].recipe, named)
    ]


def matches(variant: Variant, wanted: Mapping[str, Any]) -> bool:
    """Whether a variant has the traits that are wanted; a list names several values, but of op types and nodes, which are lists, one."""
    fields = variant.recipe.model_dump()
    for key, value in wanted.items():
        found = fields.get(key)
        if key in {"calibration_data", "model"}:
            # A variant has a path of the machine that made it.
            fits = found is not None and PurePath(found).name == PurePath(str(value)).name
        elif key in OPTIONS:
            fits = variant.recipe.options(OPTIONS[key]) == value
        elif isinstance(found, tuple):
            fits = list(found) == list(value)
        else:
            fits = found in (value if isinstance(value, list) else [value])
        if not fits:
            return False
    return True


def _alike(one: Recipe, other: Recipe, named: set[str]) -> bool:
    """Whether two recipes differ in nothing but what is named; what means nothing to one of them is no difference."""
    shared = set(type(one).model_fields) - {"name"}
    if one.method != other.method:
        if not {"method", "name"} & named:
            return False
        shared = _meant(one) & _meant(other)
    return all(getattr(one, key) == getattr(other, key) for key in shared - named)


def _meant(recipe: Recipe) -> set[str]:
    """The keys by which a recipe can be compared with one of another method."""
    return set(recipe.spec.own_keys()) - recipe.spec.incomparable
