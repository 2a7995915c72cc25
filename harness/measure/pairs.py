"""Which cases are measured side by side: every one with its fp32, with itself under another runtime, and the pairs that claims name."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.measure.plan import Case
    from harness.quantize.recipe import Variant
    from harness.study import ClaimSection

REFERENCE = "fp32"
Unit = tuple[str, ...]


def units(cases: Sequence[Case], variants: Mapping[str, Variant], claims: Sequence[ClaimSection] = ()) -> tuple[Unit, ...]:
    """Pair the cases; one that has no partner is measured alone.

    Args:
        cases: all of a campaign.
        variants: by name.
        claims: whose sets are matched: pairs that differ in nothing else.

    Returns:
        Ids of cases. Of a pair the first is what the second is compared with: fp32, or a claim's ``than``.
    """
    found: dict[Unit, None] = {}
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


def settings(case: Case) -> tuple[Any, ...]:
    """What a case has beside its variant."""
    return (*_but_runtime(case), case.runtime)


def _but_runtime(case: Case) -> tuple[Any, ...]:
    return (case.threads, case.provider, case.optimization, case.dims)


def claimed(claim: ClaimSection, cases: Sequence[Case], variants: Mapping[str, Variant]) -> list[Unit]:
    """Match a claim's two sets: cases that differ in nothing but what the sets say."""
    subject = claim.faster or claim.smaller or claim.more_accurate or claim.same_speed
    if not subject or not claim.than:
        return []
    named = {*subject, *claim.than}
    first = [case for case in cases if _matches(variants[case.variant], claim.than)]
    second = [case for case in cases if _matches(variants[case.variant], subject)]
    return [
        (one.id, other.id)
        for one, other in product(first, second)
        if one.id != other.id
        and settings(one) == settings(other)
        and _rest(variants[one.variant], named) == _rest(variants[other.variant], named)
    ]


def _matches(variant: Variant, wanted: Mapping[str, Any]) -> bool:
    fields = variant.recipe.model_dump()
    return all(key in fields and fields[key] in (value if isinstance(value, list) else [value]) for key, value in wanted.items())


def _rest(variant: Variant, named: set[str]) -> dict[str, Any]:
    return {key: value for key, value in variant.recipe.model_dump().items() if key not in {*named, "name"}}
