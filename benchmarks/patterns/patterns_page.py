"""docs/patterns.md, from what the workers found."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from verdicts import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Results = Mapping[str, Mapping[str, Any]]

EXAMPLES = 3
TROUBLES = ("crash", "unfit", "refused")


def summary(results: Results) -> dict[str, Any]:
    """Count structures and variants: ``structures``, ``recipes`` (outcomes of each), ``families``, ``mismatches`` and what is in trouble."""
    by_recipe: dict[str, Counter[str]] = defaultdict(Counter)
    by_family: dict[str, Counter[str]] = defaultdict(Counter)
    for name, recipe, said in _said(results):
        by_recipe[recipe][said["outcome"]] += 1
        by_family[name.partition("/")[0]][said["outcome"]] += 1
    return {
        "structures": len(results),
        "families": {family: _all(counts) for family, counts in sorted(by_family.items())},
        "recipes": {recipe: _all(counts) for recipe, counts in by_recipe.items()},
        "mismatches": {name: found["mismatches"] for name, found in results.items() if found.get("mismatches")},
        **{kind: {name: found[kind] for name, found in results.items() if kind in found} for kind in TROUBLES},
    }


def unexplained(results: Results) -> int:
    """Count what is not explained: variants, structures that could not be taken, and plans that did not hold."""
    counts = summary(results)
    return int(
        sum(each["unexplained"] for each in counts["recipes"].values())
        + len(counts["mismatches"])
        + sum(len(counts[kind]) for kind in TROUBLES)
    )


def table(counts: Mapping[str, Mapping[str, int]], first: str) -> Iterator[str]:
    """Write a table of outcomes, a row for each recipe or family, and their sum."""
    yield f"| {first} | {' | '.join(OUTCOMES)} |"
    yield f"| --- |{' --: |' * len(OUTCOMES)}"
    for name, each in counts.items():
        yield f"| {name} | {' | '.join(str(each[outcome]) for outcome in OUTCOMES)} |"
    sums = [sum(each[outcome] for each in counts.values()) for outcome in OUTCOMES]
    yield f"| all | {' | '.join(map(str, sums))} |"


def _said(results: Results) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for name, found in results.items():
        for recipe, said in found.get("recipes", {}).items():
            yield name, recipe, said


def _all(counts: Mapping[str, int]) -> dict[str, int]:
    return {outcome: counts.get(outcome, 0) for outcome in OUTCOMES}


def render(results: Results, versions: Mapping[str, str]) -> str:
    """Write the page."""
    counts = summary(results)
    return "\n".join([str(versions), *table(counts["recipes"], "recipe"), "", *table(counts["families"], "family")]) + "\n"
