"""Check, before anything is built, that a candidate and its baseline can be compared and that the gate can be judged."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from harness.errors import SelectionError, StudyError
from harness.quantize import matrix
from harness.quantize.model.model import read_model
from harness.study.claims_and_gate import AGAINST_FP32, TIMES, GateSection
from harness.study.study import GIVEN
from harness.study.toml_file import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.devices.device import Device
    from harness.devices.registry import Registry
    from harness.quantize.model.model import SourceModel
    from harness.workflow.baselines import BaselineSource
    from harness.workflow.preflight import Preflight


def check(
    preflight: Preflight, source: BaselineSource, devices: Sequence[Device], registry: Registry, globs: Sequence[str]
) -> None:
    """Check both sides, and the gate's limits.

    Raises:
        UsageError: a member of its branch, if the two have nothing to compare, or the gate asks for what can't be had.
    """
    _refuse_vain_limits(preflight, registry)
    _refuse_unmeasurable(preflight, devices)
    _refuse_incomparable_outputs(preflight, source)
    if source.runtime is None:
        _refuse_strangers(preflight, source, globs)
        _refuse_other_inputs(preflight, source)


def _refuse_strangers(preflight: Preflight, source: BaselineSource, globs: Sequence[str]) -> None:
    """Check that both sides have variants in common.

    Raises:
        SelectionError: if no variant is on both sides.
    """
    wanted = [each.name for each in preflight.recipes if not globs or any(fnmatchcase(each.name, glob) for glob in globs)]
    if not wanted:
        message = f"no variant matches {', '.join(globs)}; known: {', '.join(each.name for each in preflight.recipes)}"
        raise SelectionError(message)
    there = [each.name for each in source.baseline.variants]
    if source.model is None and not set(wanted) & set(there):
        hint = f'; the baseline is a finished model, so use methods = ["{GIVEN}"]' if there == [GIVEN] else ""
        message = f"{source.baseline.described} has none of the variants {', '.join(wanted)}; it has {', '.join(there)}{hint}"
        raise SelectionError(message)


def _refuse_vain_limits(preflight: Preflight, registry: Registry) -> None:
    """Check that each limit is for a device and variant that exist, even if this check does not include them.

    Raises:
        StudyError: if not; a limit with a slip of the pen would be none.
    """
    asked = preflight.study.gate or GateSection()
    devices = [*registry.entries, *(f"@{tag}" for tag in registry.tags)]
    variants = [each.name for each in matrix.plan(preflight.study)]
    for limit in asked.limit:
        if limit.device is not None and limit.device not in devices:
            message = f"[[gate.limit]] on {limit.metric}: there is no device '{limit.device}'; {nearest(limit.device, devices)}"
            raise StudyError(message)
        if limit.variant is not None and not any(fnmatchcase(name, limit.variant) for name in variants):
            message = (
                f"[[gate.limit]] on {limit.metric}: no variant matches '{limit.variant}'; {nearest(limit.variant, variants)}"
            )
            raise StudyError(message)


def _refuse_other_inputs(preflight: Preflight, source: BaselineSource) -> None:
    """Check that both sides accept the same inputs.

    Raises:
        SelectionError: if the baseline takes others.
    """
    paths = [each.path for each in source.baseline.variants if each.path is not None]
    there = source.model or (read_model(paths[0]) if paths else None)
    if there is None:
        return
    shapes = [
        {spec.name: (spec.dtype, shape[spec.name]) for spec in model.inputs}
        for model in (preflight.model, there)
        for shape in [_fixed(model)]
    ]
    mine, theirs = shapes
    if set(mine) == set(theirs) and all(_same(mine[name], theirs[name]) for name in mine):
        return
    words = ["; ".join(map(str, model.inputs)) for model in (there, preflight.model)]
    message = f"{source.baseline.described} has the inputs {words[0]}, but {preflight.model.path} has {words[1]}, so they can't run on the same data"
    raise SelectionError(message)


def _refuse_incomparable_outputs(preflight: Preflight, source: BaselineSource) -> None:
    """Check that a gate on fidelity has an fp32 model and suitable outputs.

    Raises:
        StudyError: if not.
    """
    asked = [metric for metric in (preflight.study.gate or GateSection()).metrics if metric in AGAINST_FP32]
    if asked and preflight.study.is_given and source.runtime is None:
        message = (
            f"the metric {' and '.join(asked)} needs the fp32 model of each variant, but both sides are finished models; "
            'gate a study of the fp32 model, with each finished model as a [[variant]] of method = "given", or leave the metric out '
            "(broken outputs fail the gate in any case)"
        )
        raise StudyError(message)
    lacking = [metric for metric in asked if any(not reference.tells(metric) for reference in preflight.references)]
    if lacking:
        reasons = {
            "sqnr": "the model has no floating-point output",
            "top1_agreement": "the model has no output [batch, classes] whose largest class could be compared",
        }
        difference = next((each.difference for each in preflight.references if each.difference), None)
        reason = difference.sentence if difference else reasons[lacking[0]]
        message = f"{preflight.study.model.path}: the gate's metric is {lacking[0]}, but {reason}"
        raise StudyError(message)


def _fixed(model: SourceModel) -> dict[str, tuple[int | None, ...]]:
    """A model's input shapes; None is a dimension that is open."""
    return {spec.name: tuple(size if isinstance(size, int) else None for size in spec.shape) for spec in model.inputs}


def _same(one: tuple[str, tuple[int | None, ...]], other: tuple[str, tuple[int | None, ...]]) -> bool:
    """Whether two inputs can be fed the same array, as far as the models say."""
    (kind, shape), (other_kind, other_shape) = one, other
    alike = len(shape) == len(other_shape) and all(
        None in sizes or len(set(sizes)) == 1 for sizes in zip(shape, other_shape, strict=True)
    )
    return kind == other_kind and alike


def _refuse_unmeasurable(preflight: Preflight, devices: Sequence[Device]) -> None:
    """Check that the gate's metrics can be measured.

    Raises:
        StudyError: if not.
    """
    asked = preflight.study.gate or GateSection()
    if "accuracy" in asked.metrics and all(samples.labels is None for samples in preflight.evaluation):
        message = f"the gate's metric is accuracy, but the evaluation data have no labels: {preflight.evaluation[0].source}"
        raise StudyError(message)
    blind = [
        each.name
        for each in devices
        if each.emulated and set(asked.metrics) - {"outputs"} <= set(TIMES) and not asked.only_outputs
    ]
    if len(blind) == len(devices):
        message = (
            f"{', '.join(blind)}: emulated, so {', '.join(asked.metric)} can't be judged; "
            'add instructions: --metric instructions, or metric = ["latency.median", "instructions"] under [gate]'
        )
        raise StudyError(message)
