"""One structure through all recipes: built, checked, planned, quantized, run, compared and judged."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import recipes
import rounding
import verdicts
from families.registry import load_all

from harness import study as studies
from harness.errors import HarnessError
from harness.quantize import matrix
from harness.quantize.build import build
from harness.quantize.models.model import read_model
from harness.quantize.planning.planner import plan_build
from harness.quantize.quiet import quiet
from harness.quantize.reasons import reason_of
from harness.quantize.verify.fidelity import Fidelity, compare
from harness.variants import VariantsSection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from families.registry import Pattern
    from families.net import Net

    from harness.quantize.planning.planner import Plan
    from harness.quantize.recipe import Recipe, Variant

    Outputs = Sequence[Mapping[str, np.ndarray[Any, Any]]]


class Unfit(Exception):
    """A structure that can test nothing: its outputs are the same for every sample, or not finite."""


class Trial:
    """One structure, and what fp32 makes of it."""

    def __init__(self, pattern: Pattern, folder: Path) -> None:
        self.pattern, self.folder = pattern, folder
        self.net: Net = pattern.net()
        self.model = self.net.model()
        self.path = folder / "model.onnx"
        onnx.save(self.model, self.path)
        np.savez(folder / "data.npz", allow_pickle=False, **self.net.feeds)
        self.samples = [dict(zip(self.net.feeds, values, strict=True)) for values in zip(*self.net.feeds.values(), strict=True)]
        self.names = _names(self.model)
        self.reference = self.run(self.model)
        self._check()

    def run(self, model: onnx.ModelProto | Path, *, plain: bool = False) -> Outputs:
        """Run a model on all samples.

        Args:
            model: what is run.
            plain: without onnxruntime's optimizations.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        if plain:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        source = model if isinstance(model, Path) else model.SerializeToString()
        with quiet():
            session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
            names = [each.name for each in session.get_outputs()]
            return [dict(zip(names, session.run(None, sample), strict=True)) for sample in self.samples]

    def _check(self) -> None:
        for name in self.reference[0]:
            values = [sample[name] for sample in self.reference]
            if not self.pattern.constant and all(np.array_equal(values[0], each) for each in values):
                message = f"output {name} is the same for every sample"
                raise Unfit(message)
            if not self.pattern.infinite and not all(np.isfinite(each).all() for each in values):
                message = f"output {name} is not finite"
                raise Unfit(message)

    def examine(self) -> dict[str, Any]:
        """Plan and build all recipes, and judge each variant."""
        dims = {axis: [1] for each in self.net.inputs for axis in _open(each)}
        for each in self.net.inputs:
            shape = self.net.feeds[each.name].shape[1:]
            dims |= {word: [max(size, 1)] for word, size in zip(_words(each), shape, strict=True) if word}
        study = studies.for_model(self.path, dims=dims, calibration=str(self.folder / "data.npz"))
        study = study.model_copy(update={"variants": VariantsSection(methods=["fp32"]), "variant": recipes.all_recipes()})
        planned = matrix.plan(study)
        plan = plan_build(study, planned, read_model(self.path))
        variants = build(study, self.folder / "out", recipes=planned)
        prepared = next((each.path for each in variants if each.recipe.method == "prepared"), None)
        ideals = Ideals(self, onnx.load(prepared) if prepared else self.model)
        return {
            "opset": self.pattern.opset,
            "ops": sorted({node.op_type for node in self.model.graph.node}),
            "mismatches": mismatches(plan, variants),
            "recipes": {each.name: self._judged(each, ideals) for each in variants if each.recipe.method != "fp32"},
        }

    def _judged(self, variant: Variant, ideals: Ideals) -> dict[str, Any]:
        if variant.path is None:
            outcome, why = verdicts.of_failure(variant, self.names)
            return {"outcome": outcome, "why": why}
        try:
            found = compare(self.reference, self.run(variant.path), batch=1)
        except (HarnessError, Exception) as exc:  # noqa: BLE001 - onnxruntime's exceptions have no common base
            reason = reason_of(exc, [self.folder])
            told = any(reason[:60] in note or "does not load" in note or "refuses" in note for note in variant.notes)
            return {"outcome": "told" if told else "unexplained", "why": f"does not run: {reason}", "notes": list(variant.notes)}
        if self.pattern.random:
            said = any("reproduce" in note or "random" in note.lower() for note in variant.notes)
            return {"outcome": "withheld" if said else "unexplained", "why": "" if said else "random, and no note says so"}
        return self._compared(variant, found, ideals)

    def _compared(self, variant: Variant, found: Fidelity, ideals: Ideals) -> dict[str, Any]:
        poor = found.sqnr_db is not None and found.merit < verdicts.FLOOR
        ideal = ideals.merit(variant.recipe) if poor else None
        outcome, why = verdicts.of_made(found, variant.notes, ideal, self.names)
        answer = {"outcome": outcome, "why": why, "merit": verdicts.number(found.merit), "sqnr": verdicts.number(found.sqnr_db)}
        if outcome != "fine":
            answer |= {"ideal": verdicts.number(ideal), "notes": list(variant.notes), "fidelity": list(found.notes)}
        return answer


class Ideals:
    """What plain rounding gives, for each kind of recipe once."""

    def __init__(self, trial: Trial, prepared: onnx.ModelProto) -> None:
        self.trial, self.prepared = trial, prepared
        self._known: dict[tuple[Any, ...], float | None] = {}

    def merit(self, recipe: Recipe) -> float | None:
        """The merit of the rounded model; None where there is none, or it does not run."""
        key = (recipe.method, recipe.activation, recipe.weight, recipe.per_channel)
        if key not in self._known:
            self._known[key] = self._merit(recipe)
        return self._known[key]

    def _merit(self, recipe: Recipe) -> float | None:
        try:
            model = rounding.rounded(self.prepared, recipe, self._values)
            if model is None:
                return None
            return compare(self.trial.reference, self.trial.run(model, plain=True), batch=1).merit
        except Exception:  # noqa: BLE001 - then there is nothing to excuse the variant
            return None

    def _values(self, model: onnx.ModelProto) -> Outputs:
        """The inputs and outputs of each sample."""
        pairs = zip(self.trial.samples, self.trial.run(model, plain=True), strict=True)
        return [{**inputs, **outputs} for inputs, outputs in pairs]


def mismatches(plan: Plan, variants: Sequence[Variant]) -> list[str]:
    """Hold the planned states to what was made."""
    found = []
    for told, made in zip(plan.variants, variants, strict=True):
        same = next((note.removeprefix("the same file as ") for note in made.notes if note.startswith("the same file as ")), None)
        if told.state == "impossible" or made.state == "impossible":
            fits = told.state == made.state
        elif told.state == "same":
            fits = same is not None or made.state == "failed"
        else:
            fits = made.state == "made"
        if not fits:
            found.append(f"{told.name}: planned {told.state}, came out {made.state}: {made.reason or ''}")
    return found


def _names(model: onnx.ModelProto) -> set[str]:
    nodes = model.graph.node
    found = {node.name for node in nodes} | {name for node in nodes for name in (*node.input, *node.output)}
    return found - {""}


def _words(value: onnx.ValueInfoProto) -> list[str]:
    return [each.dim_param for each in value.type.tensor_type.shape.dim]


def _open(value: onnx.ValueInfoProto) -> list[str]:
    return [word for word in _words(value) if word]


def examine(name: str) -> dict[str, Any]:
    """Take a structure by its name.

    Returns:
        ``unfit``: why it tests nothing; ``refused``: why the harness does not take it; or what :meth:`Trial.examine` gives.
    """
    with tempfile.TemporaryDirectory(prefix="pattern-") as scratch:
        try:
            trial = Trial(load_all()[name], Path(scratch))
        except Exception as exc:  # noqa: BLE001 - of onnx, of onnxruntime, or ours
            return {"unfit": reason_of(exc, [Path(scratch)])}
        try:
            return trial.examine()
        except HarnessError as exc:
            return {"refused": str(exc).replace(f"{scratch}/", "")}
