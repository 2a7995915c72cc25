"""docs/coverage.md, from what the workers found."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import sections

if TYPE_CHECKING:
    from collections.abc import Mapping

    Results = Mapping[str, Mapping[str, Any]]

OUTCOMES = ("quantized", "nothing", "impossible", "failed", "not run", "no fp32")
EXAMPLES, REASON = 3, 170
HEAD = """\
# Coverage

For engineers with an unusual model, and for contributors: which models the harness inspects and quantizes, and why it
refuses the others.

What the harness makes of {count:,} models from other projects: all backend tests of the `onnx` package, the files
that it ships and those that it builds of each operator. With onnx {onnx} and onnxruntime {onnxruntime}; made by

    python benchmarks/coverage.py --write docs/coverage.md

Each model is inspected and planned, then one recipe of each kind is made of it, calibrated with the test's own input
where arrays can hold it, and what was made is loaded and run here on that input. {crashes}
"""


def summary(results: Results) -> dict[str, Any]:
    """Count: ``models``, ``crashed``, ``refused``, ``not_taken``, ``no_fp32``, and for each recipe how many models had which outcome."""
    recipes: dict[str, Counter[str]] = defaultdict(Counter)
    for found in results.values():
        for recipe, said in found.get("recipes", {}).items():
            recipes[recipe][_outcome(found, said)] += 1
    return {
        "models": len(results),
        "crashed": {name: found["crash"] for name, found in results.items() if "crash" in found},
        "refused": sum("refused" in found for found in results.values()),
        "not_taken": sum("not_taken" in found for found in results.values()),
        "no_fp32": sum("fp32" in found for found in results.values()),
        "recipes": {recipe: {outcome: counts[outcome] for outcome in OUTCOMES} for recipe, counts in recipes.items()},
    }


def render(results: Results, versions: Mapping[str, str]) -> str:
    """Write the page."""
    counts = summary(results)
    crashed = counts["crashed"]
    crashes = "None crashed." if not crashed else f"{len(crashed)} crashed; they are listed at the end."
    inspected = counts["models"] - counts["refused"]
    lines = [
        HEAD.format(count=counts["models"], crashes=crashes, **versions),
        f"{inspected:,} are inspected, {counts['refused']} are refused; the message says why:",
        "",
        *_grouped((found["refused"], "", name) for name, found in results.items() if "refused" in found),
        f"Of those that are inspected, {counts['not_taken']} are not taken for quantizing:",
        "",
        *_grouped((found["not_taken"], "", name) for name, found in results.items() if "not_taken" in found),
        f"{counts['no_fp32']} of those inspected are not run by onnxruntime {versions['onnxruntime']} itself, so that nothing can be compared with them:",
        "",
        *_grouped((found["fp32"], "", name) for name, found in results.items() if "fp32" in found),
        "## By recipe",
        "",
        (
            "*Nothing to do*: the recipe changes no node of the model; most of these models are one operator without weights. *Impossible*: a "
            "rule, told before any work. *Failed*: a tool refused. *Not run*: made, but onnxruntime here does not load or run it, where it "
            "runs fp32. The share is of the models with something to do that onnxruntime runs."
        ),
        "",
        "| recipe | quantized and run | share | nothing to do | impossible | failed | not run | no fp32 to compare | median SQNR |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for recipe, said in counts["recipes"].items():
        tried = said["quantized"] + said["failed"] + said["not run"]
        share = f"{100 * said['quantized'] / tried:.1f} %" if tried else "–"
        cells = [recipe, said["quantized"], share, *(said[outcome] for outcome in OUTCOMES[1:]), _median(results, recipe)]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    rest = [
        (said["reason"], f"{recipe} {said['outcome']}", name)
        for name, found in results.items()
        for recipe, said in found.get("recipes", {}).items()
        if said.get("reason") and _outcome(found, said) != "no fp32"
    ]
    lines += ["", "## Why the rest are not", "", *_grouped(rest)]
    if crashed:
        lines += ["## Crashes", "", *_grouped((why, "", name) for name, why in crashed.items())]
    return sections.wrapped("\n".join(lines).rstrip()) + "\n"


def _outcome(found: Mapping[str, Any], said: Mapping[str, Any]) -> str:
    """Name a recipe's outcome; of a model that onnxruntime does not run, that is all that can be said."""
    outcome: str = said["outcome"]
    return "no fp32" if "fp32" in found and outcome in {"failed", "not run"} else outcome


def _median(results: Results, recipe: str) -> str:
    ratios = [found.get("recipes", {}).get(recipe, {}).get("sqnr") for found in results.values()]
    known = sorted(ratio for ratio in ratios if ratio is not None)
    return f"{known[len(known) // 2]:.1f} dB" if known else "–"


def _grouped(told: Any) -> list[str]:  # noqa: ANN401 - any iterable of (reason, recipe, model)
    """Make a table of reasons, the most frequent first, with the recipes that they concern and some models."""
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for reason, recipe, name in told:
        groups[_alike(reason)].append((recipe, name))
    rows = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    if not rows:
        return ["None.", ""]
    some = any(recipe for _, found in rows for recipe, _ in found)
    lines = (
        ["| models | reason | recipes | such as |", "| --: | --- | --- | --- |"]
        if some
        else ["| models | reason | such as |", "| --: | --- | --- |"]
    )
    for reason, found in rows:
        names = list(dict.fromkeys(name for _, name in found))
        examples = ", ".join(name.partition("/")[2] for name in names[:EXAMPLES])
        recipes = ", ".join(dict.fromkeys(recipe for recipe, _ in found))
        cells = [str(len(names)), reason.replace("|", "\\|"), *([recipes] if some else []), examples]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _alike(reason: str) -> str:
    """Drop what differs from model to model: names in quotes, numbers, lists."""
    text = " ".join(reason.removeprefix("model.onnx: ").split())
    text = re.sub(r"'[^']*'|\"[^\"]*\"", "'…'", text)
    text = re.sub(r"('…'(, )?)+", "'…'", text)
    text = re.sub(r"nodes: [^;]*;", "nodes: …;", text)
    text = re.sub(r"\b(?:name|node|Node)[:=]? ?\([^)]*\)", "node …", text)
    text = re.sub(r"(?<![\w.])-?\d+(\.\d+)?(?![\w.])", "N", text)
    text = re.sub(r"\[[^\]]*N[^\]]*\]|\{[^}]*\}", "[…]", text)
    return text if len(text) <= REASON else f"{text[: REASON - 1]}…"
