"""One structure through all recipes: built, checked, planned, quantized, run, compared and judged."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import choices
import numpy as np
import onnx
import onnxruntime
import recipes
import rounding
import verdicts
from families.registry import load_all

from harness.errors import DataError, HarnessError
from harness.quantize import matrix
from harness.quantize.build import build
from harness.quantize.model.model import read_model
from harness.quantize.planning.inspect import inspect_model
from harness.quantize.planning.planner import plan_build
from harness.quantize.quiet import quiet
from harness.quantize.reasons import reason_of
from harness.quantize.verify.fidelity import Fidelity, compare
from harness.quantize.verify.reproducibility import differs
from harness.study import study as studies
from harness.study.variants import VariantsSection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from families.registry import Pattern

    from harness.quantize.planning.planner import Plan
    from harness.quantize.recipe import Recipe, Variant
    from harness.study.specs import VariantSpec

    Outputs = Sequence[Mapping[str, np.ndarray[Any, Any]]]


class UnfitError(Exception):
    """A structure that can test nothing: its outputs are the same for every sample, or not finite."""


class Trial:
    """One model, its data, and what fp32 makes of them.

    Args:
        path: the model.
        samples: the inputs of each run; calibration and comparison use the same.
        folder: for what is made.
        random: the model does not reproduce itself.
    """

    def __init__(
        self, path: Path, samples: Sequence[Mapping[str, np.ndarray[Any, Any]]], folder: Path, *, random: bool = False
    ) -> None:
        self.path, self.samples, self.folder, self.random = path, samples, folder, random
        self.model = onnx.load(path)
        self.names, self.chosen = _names(self.model), choices.chosen(self.model)
        self.data = folder / "data.npz"
        np.savez(self.data, allow_pickle=False, **{name: np.stack([each[name] for each in samples]) for name in samples[0]})
        self.reference = self.run(path)
        self.difference = differs(path, samples, [list(each.values()) for each in self.reference])

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

    def examine(self, specs: Sequence[VariantSpec]) -> dict[str, Any]:
        """Plan and build recipes, and judge each variant."""
        dims: dict[str, list[int]] = {}
        for tensor in inspect_model(self.path).inputs:
            sizes = zip(tensor.shape, self.samples[0][tensor.name].shape, strict=True)
            dims |= {axis: [size] for axis, size in sizes if isinstance(axis, str)}
        study = studies.for_model(self.path, dims=dims, calibration=str(self.data))
        study = study.model_copy(update={"variants": VariantsSection(methods=["fp32"]), "variant": list(specs)})
        planned = matrix.plan(study)
        plan = plan_build(study, planned, read_model(self.path))
        variants = build(study, self.folder / "out", recipes=planned)
        prepared = next((each.path for each in variants if each.recipe.method == "prepared"), None)
        ideals = Ideals(self, onnx.load(prepared) if prepared else self.model)
        return {
            "opset": next((each.version for each in self.model.opset_import if each.domain in {"", "ai.onnx"}), 0),
            "nodes": len(self.model.graph.node),
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
        except DataError as exc:
            # Of detections whose number varies; harness run and harness debug say the same.
            return {"outcome": "incomparable", "why": str(exc)}
        except Exception as exc:  # noqa: BLE001 - onnxruntime's exceptions have no common base
            reason = reason_of(exc, [self.folder])
            told = any(reason[:60] in note or "does not load" in note or "refuses" in note for note in variant.notes)
            return {"outcome": "told" if told else "unexplained", "why": f"does not run: {reason}", "notes": list(variant.notes)}
        if self.difference is not None:
            return {"outcome": "withheld" if self.difference.causes else "unexplained", "why": self.difference.sentence}
        return self._compared(variant, found, ideals)

    def _compared(self, variant: Variant, found: Fidelity, ideals: Ideals) -> dict[str, Any]:
        poor = found.sqnr_db is not None and found.merit < verdicts.FLOOR
        ideal = ideals.merit(variant.recipe) if poor else None
        outcome, why = verdicts.of_made(found, variant.notes, ideal, self.names, self.chosen)
        answer: dict[str, Any] = {
            "outcome": outcome,
            "why": why,
            "merit": verdicts.number(found.merit),
            "sqnr": verdicts.number(found.sqnr_db),
        }
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


def open_pattern(pattern: Pattern, folder: Path) -> Trial:
    """Build a structure, check it, and run it.

    Raises:
        UnfitError: if it would test nothing.
    """
    net = pattern.net()
    onnx.save(net.model(), folder / "model.onnx")
    samples = [dict(zip(net.feeds, values, strict=True)) for values in zip(*net.feeds.values(), strict=True)]
    trial = Trial(folder / "model.onnx", samples, folder)
    if pattern.random != (trial.difference is not None):
        message = trial.difference.sentence if trial.difference else "it reproduces itself"
        raise UnfitError(message)
    for name in trial.reference[0]:
        values = [sample[name] for sample in trial.reference]
        if not pattern.constant and all(np.array_equal(values[0], each) for each in values):
            message = f"output {name} is the same for every sample"
            raise UnfitError(message)
        if not pattern.infinite and not all(np.isfinite(each).all() for each in values):
            message = f"output {name} is not finite"
            raise UnfitError(message)
    return trial


def examine(name: str) -> dict[str, Any]:
    """Take a structure by its name.

    Returns:
        ``unfit``: why it tests nothing; ``refused``: why the harness does not take it; or what :meth:`Trial.examine` gives.
    """
    with tempfile.TemporaryDirectory(prefix="pattern-") as scratch:
        try:
            trial = open_pattern(load_all()[name], Path(scratch))
        except Exception as exc:  # noqa: BLE001 - of onnx, of onnxruntime, or ours
            return {"unfit": reason_of(exc, [Path(scratch)])}
        try:
            return trial.examine(recipes.all_recipes())
        except HarnessError as exc:
            return {"refused": str(exc).replace(f"{scratch}/", "")}
