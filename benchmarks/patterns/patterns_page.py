"""docs/patterns.md, and its section of docs/coverage.md, from what the workers found."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import sections
from verdicts import EXPLAINED, FLOOR, MARGIN, OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    Results = Mapping[str, Mapping[str, Any]]

HEADING = "Structures of real models"
EXAMPLES, REASON = 2, 200
TROUBLES = ("crash", "unfit", "refused")
# Whose reasons the page lists; of those within the margin of plain rounding the figures say all.
TOLD = ("unexplained", "broken", "told", "dead", "refused", "impossible", "choice", "incomparable", "withheld")
HEAD = """\
# Structures of real models

For engineers with a model of their own, and for contributors: how well each recipe works on the structures of real
models.

What becomes of {structures} generated structures that real models consist of, in each of {recipes} recipes. With onnx
{onnx} and onnxruntime {onnxruntime}; made by

    python benchmarks/patterns.py --write docs/patterns.md

A structure is a function with parameters in `benchmarks/patterns/families/`: shared heads, residuals, feature pyramids,
detection tails, attention with masks, decoders with a past, experts, vocoders, squeeze-excite blocks, norms,
convolutions of every kind, pre- and post-processing, bodies of If, Loop and Scan, and constants of every form, in the
operator sets {opsets}. Its float model must pass `onnx.checker`, and give finite outputs that vary. Each variant is
compared with the plan, loaded, run on the calibration data, and compared with fp32. Its worst output, slice or sample
decides on the outcome.

| outcome | variants | what it means |
| --- | --: | --- |
{outcomes}

{verdict}
"""
MEANING = {
    "fine": f"the worst part has an SQNR of {FLOOR:.0f} dB or more",
    "rounding": f"lower, but within {MARGIN:.0f} dB of plain rounding, which is a computation in float that rounds the same tensors to as many bits",
    "told": "worse than plain rounding, and a note on the variant names the node, or the part that is far below the rest",
    "dead": "parts are constant or not finite, and a note names them; plain rounding loses parts too, because one scale can't hold both ranges",
    "broken": "parts are constant or not finite, and a note names them; plain rounding would keep them, so the fault is reported but not fixed",
    "impossible": "a rule of the planner says why, with its source",
    "refused": "not made; the reason names the node and the way out",
    "choice": "outputs behind a TopK, ArgMax, NonMaxSuppression or comparison differ, because two candidates are nearly equal; the scores themselves are fine",
    "incomparable": "the number of boxes differs, so that nothing can be compared; `harness run` and `harness debug` say so",
    "withheld": "the float model draws random numbers; the harness names the node and gives no figures",
    "unexplained": "none of the above",
}


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


def render(results: Results, versions: Mapping[str, str]) -> str:
    """Write the page."""
    counts = summary(results)
    opsets = sorted({found["opset"] for found in results.values() if "opset" in found})
    lines = [
        HEAD.format(
            structures=len(results),
            recipes=len(counts["recipes"]),
            opsets=", ".join(map(str, opsets)),
            outcomes="\n".join(_meanings(counts)),
            verdict=_verdict(results),
            **versions,
        ),
        "## By recipe",
        "",
        *_table(counts["recipes"], "recipe"),
        "",
        "## By family",
        "",
        *_table(counts["families"], "family"),
        "",
        "## Why",
        "",
        *_reasons(results),
    ]
    for kind, text in (("crash", "The harness fails"), ("unfit", "Structures that test nothing"), ("refused", "Not taken")):
        if counts[kind]:
            lines += ["", f"## {text}", "", *(f"- `{name}`: {why}" for name, why in counts[kind].items())]
    return sections.wrapped("\n".join(lines).rstrip()) + "\n"


def section(results: Results) -> str:
    """Write the section of docs/coverage.md."""
    counts = summary(results)
    return sections.wrapped(
        "\n".join(
            [
                f"{len(results)} generated structures that real models consist of, each through {len(counts['recipes'])} recipes; [patterns.md](patterns.md) says more.",
                "",
                "| outcome | variants | what it means |",
                "| --- | --: | --- |",
                *_meanings(counts),
                "",
                _verdict(results),
            ]
        )
    )


def _meanings(counts: Mapping[str, Any]) -> Iterator[str]:
    for outcome in OUTCOMES:
        yield f"| {outcome} | {sum(each[outcome] for each in counts['recipes'].values()):,} | {MEANING[outcome]} |"


def _verdict(results: Results) -> str:
    counts = summary(results)
    open_ends = unexplained(results)
    plans = len(counts["mismatches"])
    told = (
        "Every variant that is worse, or that could not be made, is explained"
        if not open_ends
        else f"{open_ends} are not explained"
    )
    held = "the plan was right about each of them." if not plans else f"the plan does not hold for {plans} structures."
    return f"{told}; {held}"


def _table(counts: Mapping[str, Mapping[str, int]], first: str) -> Iterator[str]:
    """A row for each recipe or family, and their sum; outcomes that nothing has are left out."""
    seen = [outcome for outcome in OUTCOMES if any(each[outcome] for each in counts.values()) or outcome == "unexplained"]
    yield f"| {first} | {' | '.join(seen)} |"
    yield f"| --- |{' --: |' * len(seen)}"
    for name, each in counts.items():
        yield f"| {name} | {' | '.join(str(each[outcome]) for outcome in seen)} |"
    yield f"| all | {' | '.join(str(sum(each[outcome] for each in counts.values())) for outcome in seen)} |"


def _reasons(results: Results) -> Iterator[str]:
    """Group what was said, the most frequent first within each outcome."""
    groups: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for name, recipe, said in _said(results):
        if said["outcome"] in TOLD:
            groups[said["outcome"], _alike(said["why"])].append((name, recipe))
    for name, found in results.items():
        for each in found.get("mismatches", ()):
            groups["plan", _alike(each.partition(": ")[2])].append((name, each.partition(": ")[0]))
    yield "| outcome | variants | said | such as |"
    yield "| --- | --: | --- | --- |"
    order = ["plan", *TOLD]
    for (outcome, reason), cases in sorted(groups.items(), key=lambda item: (order.index(item[0][0]), -len(item[1]), item[0][1])):
        examples = ", ".join(f"{name} {recipe}" for name, recipe in _first_of_each(cases))
        yield f"| {outcome} | {len(cases)} | {reason.replace('|', chr(92) + '|')} | {examples} |"


def _first_of_each(found: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The first recipe of the first structures."""
    return list({name: (name, recipe) for name, recipe in reversed(list(found))}.values())[::-1][:EXAMPLES]


def _alike(text: str) -> str:
    """Drop what differs from model to model: names in quotes and outputs, numbers."""
    text = re.sub(r"'[^']*'(, '[^']*')*( and \d+ more)?", "'…'", " ".join(text.split()))
    text = re.sub(
        r"\b(channel|column|row|entry|sample|entrie)s? [\d–, and]+ ?(more runs? )?(along axis \d+ )?of \w+",
        "a part of an output",
        text,
    )
    text = re.sub(r"^\w+ (is the same for all samples|is constant)", r"an output \1", text)
    text = re.sub(r"(?<![\w.])-?\d+(\.\d+)?(?![\w.])", "N", text)
    text = re.sub(r"an SQNR of N dB, \w+ as", "an SQNR of N dB, the output as", text)
    return text if len(text) <= REASON else f"{text[: REASON - 1]}…"


def _said(results: Results) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for name, found in results.items():
        for recipe, said in found.get("recipes", {}).items():
            yield name, recipe, said


def _all(counts: Mapping[str, int]) -> dict[str, int]:
    return {outcome: counts.get(outcome, 0) for outcome in OUTCOMES}


assert set(MEANING) == set(OUTCOMES) == {*EXPLAINED, "unexplained"}
