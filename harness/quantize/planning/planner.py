"""What a study's recipes will give, told before any work: made, the same as another, impossible, and what platforms make of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from harness.errors import ModelError
from harness.quantize.data.dims import resolve_dims
from harness.quantize.model import random_nodes
from harness.quantize.model.outline import summarize
from harness.quantize.planning.caveats import caveats
from harness.quantize.planning.constraints import first_violation
from harness.quantize.planning.equivalence import twins
from harness.quantize.planning.forecast import Forecast, count_samples, forecast
from harness.quantize.planning.platforms import verdicts
from harness.quantize.planning.sizes import file_size
from harness.quantize.platform import Effect
from harness.quantize.target_nodes import target_nodes
from harness.quantize.verify.class_output import check_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.quantize.model.model import SourceModel
    from harness.quantize.model.outline import Summary
    from harness.quantize.platform import Platform
    from harness.quantize.recipe import Recipe
    from harness.quantize.rule import Rule
    from harness.study.study import Study

QUANTIZED = "the model is quantized already; give the float model, or take it as it is with method given"


class Told(BaseModel):
    """A part of the answer: immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Known(Told):
    """Something that a rule says."""

    rule: str
    text: str
    source: str

    @property
    def sentence(self) -> str:
        """The text and its source."""
        return f"{self.text} ({self.source})"


class Warned(Known):
    """What a rule says of a variant on a platform."""

    platform: str
    effect: Effect


class PlannedVariant(Told):
    """What a recipe will give.

    Attributes:
        name: the recipe's.
        state: ``made``; ``same``: shares the file of an earlier one; ``impossible``.
        same_as: the earlier one's name.
        why: the rule by which it is the same or impossible.
        size: estimated bytes of the file; None if there will be none of its own.
        nodes: of the main graph that it may turn into integers (``fp16``: into half precision), by op type.
        caveats: what is made other than a reader would expect.
        warnings: what platforms make of it.
    """

    name: str
    state: Literal["made", "same", "impossible"]
    same_as: str | None = None
    why: Known | None = None
    size: int | None = None
    nodes: dict[str, int] = {}
    caveats: tuple[Known, ...] = ()
    warnings: tuple[Warned, ...] = ()


class Plan(Told):
    """The whole answer.

    Attributes:
        study: its name.
        variants: in the order in which they are made.
        needs: passes, memory and time, all estimated.
        disk: estimated bytes of all files.
        platforms: by name, what is known of them.
        assumed: dimensions without a value, counted as 1.
        notes: what a reader must know of the model itself, such as that it draws random numbers.
    """

    study: str
    variants: tuple[PlannedVariant, ...]
    needs: Forecast
    disk: int
    platforms: dict[str, str]
    assumed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def of(self, state: str) -> tuple[PlannedVariant, ...]:
        """The variants in a state."""
        return tuple(each for each in self.variants if each.state == state)


def plan_build(study: Study, recipes: Sequence[Recipe], model: SourceModel, platforms: Sequence[Platform] = ()) -> Plan:
    """Say what a build would give. Nothing is quantized, and no data are read but the headers of files.

    Args:
        study: the question.
        recipes: those that would be made.
        model: the study's; its weights need not be loaded.
        platforms: where the variants will run.

    Raises:
        ModelError: if a dimension or an output is named that the model does not have.
    """
    check_name(model, study.model.output)
    summary = summarize(model)
    dims, assumed = _sizes(study, model)
    barred = {recipe.name: rule for recipe in recipes if (rule := _objection(recipe, summary))}
    possible = [recipe for recipe in recipes if recipe.name not in barred]
    same = twins(possible, summary)
    made = [recipe for recipe in possible if recipe.name not in same]
    needs = forecast(made, model, summary, dims, count_samples(study.model.calibration, model, dims))
    planned = []
    for recipe in recipes:
        if rule := barred.get(recipe.name):
            planned.append(PlannedVariant(name=recipe.name, state="impossible", why=rule))
            continue
        told = _told(recipe, summary, platforms)
        if recipe.name in same:
            other, spelling = same[recipe.name]
            why = Known(rule=spelling.key, text=spelling.reason, source=spelling.source)
            told = told.model_copy(update={"state": "same", "same_as": other, "why": why, "size": None})
        planned.append(told)
    drawn = random_nodes.sentence(random_nodes.find(model.proto))
    return Plan(
        study=study.name,
        variants=tuple(planned),
        needs=needs,
        disk=sum(each.size or 0 for each in planned),
        platforms={each.name: _described(each) for each in platforms},
        assumed=assumed,
        notes=(drawn,) if drawn else (),
    )


def _objection(recipe: Recipe, model: Summary) -> Known | None:
    """Say what is against a recipe."""
    if model.quantized and not recipe.is_copied:
        return Known(rule="quantized", text=QUANTIZED, source="the model itself")
    return _known(rule, model) if (rule := first_violation(recipe, model)) else None


def _told(recipe: Recipe, model: Summary, platforms: Sequence[Platform]) -> PlannedVariant:
    found: dict[str, int] = {}
    for node in target_nodes(recipe, model):
        found[node.kind] = found.get(node.kind, 0) + 1
    warned = tuple(
        Warned(
            rule=rule.key,
            text="; ".join(filter(None, [rule.reason, rule.advice])),
            source=rule.source,
            platform=where.name,
            effect=rule.effect,
        )
        for where in platforms
        for rule in verdicts(where, recipe, model)
        if found or not recipe.is_reduced or rule.key == "opset"
    )
    return PlannedVariant(
        name=recipe.name,
        state="made",
        size=file_size(recipe, model),
        nodes=dict(sorted(found.items(), key=lambda pair: -pair[1])),
        caveats=tuple(_known(rule, model) for rule in caveats(recipe, model)),
        warnings=warned,
    )


def _known(rule: Rule, model: Summary) -> Known:
    return Known(rule=rule.key, text=rule.message(model), source=rule.source)


def _sizes(study: Study, model: SourceModel) -> tuple[dict[str, int], tuple[str, ...]]:
    """The first of the study's sizes, and the dimensions that have none: a plan can do without.

    Raises:
        ModelError: if one is named that the model does not have.
    """
    try:
        return resolve_dims(model, study.model.dims)[0], ()
    except ModelError:
        given = {name: values[0] for name, values in study.model.dims.items()}
        axes = [
            (size, f"{spec.name}.{axis}")
            for spec in model.inputs
            for axis, size in enumerate(spec.shape)
            if isinstance(size, str)
        ]
        if not given.keys() <= {name for pair in axes for name in pair}:
            raise
        missing = dict.fromkeys(size for size, place in axes if size not in given and place not in given)
        return given, tuple(missing)


def _described(where: Platform) -> str:
    runtime = f"onnxruntime {where.runtime}" if where.runtime else "onnxruntime of an unknown version"
    return ", ".join([where.arch, *sorted(where.features), runtime])
