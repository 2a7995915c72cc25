"""``harness check`` in small steps: resolve the baseline, make both sides' models, measure, judge, confirm."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from pydantic import ValidationError

from harness.errors import SelectionError, StudyError
from harness.judge import decision, gate
from harness.judge.judgement import judge
from harness.measure import pairs, plan
from harness.quantize.model import storage
from harness.records import isolation
from harness.records.folder import SAMPLES, gather, save_run
from harness.records.samples import read_quantiles
from harness.records.variant_files import folder_of
from harness.study.claims_and_gate import ALL_METRICS, MAX_REGRESSION, TIMES, GateSection
from harness.study.toml_file import nearest
from harness.workflow import check_preflight, references
from harness.workflow.context import new_run, own_runtime
from harness.workflow.results import finish_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.devices.device import Device
    from harness.devices.registry import Registry
    from harness.judge.judgement import Judgement
    from harness.measure.work import Work
    from harness.quantize.recipe import Variant
    from harness.records.baseline import Baseline
    from harness.records.run import Run
    from harness.study.study import Study
    from harness.workflow.baselines import BaselineSource
    from harness.workflow.context import RunContext
    from harness.workflow.preflight import Preflight
    from harness.workflow.watcher import Watcher

PATIENCE = 600.0


def with_gate(study: Study, metrics: Sequence[str], **said: float | bool | None) -> Study:
    """Add the gate to a study: its own or the default one, with the options of the command line.

    Args:
        study: with or without a gate.
        metrics: those that the command line names; none keeps the study's.
        said: other keys of ``[gate]``; None where the command line does not say.

    Raises:
        StudyError: if the two don't fit.
    """
    for metric in metrics:
        if metric not in ALL_METRICS:
            message = f"--metric: there is no metric '{metric}'; {nearest(metric, ALL_METRICS)}"
            raise StudyError(message)
    gate = study.gate or GateSection()
    update: dict[str, object] = {"metric": list(metrics)} if metrics else {}
    if set(metrics) == {"sqnr"}:
        update["max_regression"] = MAX_REGRESSION  # the study's was for its own metrics
    fields = {**gate.model_dump(), **update, **{key: value for key, value in said.items() if value is not None}}
    try:
        found = GateSection.model_validate(fields)
    except ValidationError as exc:
        words = "; ".join(str(each["msg"]).removeprefix("Value error, ") for each in exc.errors())
        message = f"--metric, --max-regression, --max-drop-db: {words}"
        raise StudyError(message) from exc
    return study.model_copy(update={"gate": found})


def run_check(
    preflight: Preflight,
    source: BaselineSource,
    devices: Sequence[Device],
    registry: Registry,
    results: Path,
    watcher: Watcher,
    globs: Sequence[str] = (),
) -> tuple[Path, Judgement]:
    """Measure candidate and baseline side by side, judge, and confirm a regression with a second set of launches.

    Returns:
        The folder, and the judgement of the run, with its checks.

    Raises:
        UsageError: a member of its branch, if the two have nothing to compare, or the gate asks for what can't be had.
    """
    check_preflight.check(preflight, source, devices, registry, globs)
    compared_with = references.of(preflight, source)
    if source.runtime is not None:
        devices = [_with_runtime(device, source.runtime) for device in devices]
    with new_run(preflight, devices, results, watcher) as context:
        variants, interrupted = context.make()
        wanted = [each for each in variants if not globs or any(fnmatchcase(each.name, glob) for glob in globs)]
        theirs, also_interrupted = ([], False) if interrupted else _bring_baseline(context, source, wanted)
        interrupted = interrupted or also_interrupted
        names = {each.name: each.name if source.runtime else pairs.BASELINE + each.name for each in wanted}
        everything = [*wanted, *theirs]
        cases = plan.cases(everything, preflight.study.measure, preflight.dims, plan.runtimes(devices))
        units = pairs.contests(cases, names)
        paired = {name for unit in units for name in unit}
        cases = tuple(case for case in cases if case.id in paired)
        begun = context.begin(devices, [*variants, *theirs], cases, units).model_copy(
            update={"baseline": _kept(source.baseline), "warnings": (*preflight.warnings, *_unmatched(wanted, theirs, source))}
        )
        save_run(context.folder, begun)
        if not interrupted and units:
            watcher.plan(devices, cases, preflight.study.measure.rounds)
            work = replace(context.work(everything, cases, units), compare=compared_with.compare)
            interrupted = context.measure(_with_bar(work, begun, 0), devices)
            if not interrupted:
                interrupted = _confirm(context, begun, work, devices)
        return finish_run(context.folder, begun, interrupted=interrupted)


def _confirm(context: RunContext, begun: Run, work: Work, devices: Sequence[Device]) -> bool:
    """Measure an apparent regression again, with new launches; returns whether that was interrupted."""
    so_far = gather(context.folder, begun)
    quantiles = read_quantiles(context.folder / SAMPLES, so_far.cases)
    _, judgement = isolation.isolated(so_far, lambda run: judge(run, quantiles))
    suspects = {
        table.device.entry.name: found
        for table in judgement.tables
        if table.device.state == "measured" and (found := gate.suspects(table.checks))
    }
    if not suspects:
        return False
    names = set().union(*suspects.values())
    units = tuple(unit for unit in begun.units if unit[1] in names)
    cases = tuple(case for case in begun.cases if any(case.id in unit for unit in units))
    # Somebody else may have come in between: a confirmation is worth waiting for.
    again = replace(_with_bar(work, begun, begun.study.measure.rounds), cases=cases, seed=work.seed + 1)
    again = replace(again, measure=again.measure.model_copy(update={"wait": max(again.measure.wait or 0, PATIENCE)}))
    again = replace(again, units=tuple(unit for unit in again.units if unit in units))
    return context.measure(again, [device for device in devices if device.name in suspects])


def _with_bar(work: Work, begun: Run, first_round: int) -> Work:
    """Let devices measure until each pair lies on one side of its limit."""
    asked = begun.study.gate or GateSection()
    timed = [metric for metric in asked.metrics if metric in TIMES]
    variants = {case.id: case.variant for case in work.cases}
    limits: dict[str, dict[pairs.Pair, float]] = {}
    for record in begun.devices:
        name, tags = record.entry.name, record.entry.tags
        found = {unit: gate.limit_of(asked, "latency.median", name, tags, variants[unit[1]]) for unit in work.units}
        limits[name] = {unit: limit for unit, limit in found.items() if limit is not None}
    first_look = max(map(decision.first_look, timed), default=decision.FIRST_LOOK)
    bar = plan.Bar(limits, decision.LEVEL, first_look, first_round)
    # Nothing is measured that the gate does not look at.
    counted = work.measure.counting and "instructions" in asked.metrics
    measure = work.measure.model_copy(update={"counting": counted, "throughput": []})
    return replace(work, bar=bar, measure=measure, units=work.units if timed else ())


def _bring_baseline(context: RunContext, source: BaselineSource, wanted: Sequence[Variant]) -> tuple[list[Variant], bool]:
    """Bring the baseline's models into the run's folder, under names of their own."""
    if source.runtime is not None:
        return [], False
    folder = folder_of(context.folder, baseline=True)
    interrupted = False
    if source.model is not None:
        study = context.preflight.study
        model = study.model.model_copy(update={"path": source.model.path})
        found, interrupted = context.make(study.model_copy(update={"model": model}), source.model, of_baseline=True)
    else:
        found = list(source.baseline.variants)
    names = {each.name for each in wanted}
    kept = []
    folder.mkdir(parents=True, exist_ok=True)
    for variant in found:
        if variant.name not in names or variant.state == "impossible":
            continue
        path = variant.path and folder / variant.recipe.file_name
        if path is not None and variant.path is not None and path != variant.path:
            storage.copy(variant.path, path, variant.data)
        recipe = variant.recipe.model_copy(update={"name": pairs.BASELINE + variant.name})
        kept.append(variant.model_copy(update={"recipe": recipe, "path": path, "notes": ()}))
    return kept, interrupted


def _with_runtime(device: Device, baseline: str) -> Device:
    """Let a device measure its first runtime, which is the candidate's, and the baseline's."""
    candidate = device.runtimes[0] if device.runtimes else own_runtime()
    if candidate == baseline:
        message = f'{device.name}: the candidate would run on onnxruntime {candidate}, like the baseline; give another version, or set runtimes = ["VERSION"] for the device'
        raise SelectionError(message)
    return device.model_copy(update={"runtimes": [candidate, baseline]})


def _unmatched(wanted: Sequence[Variant], theirs: Sequence[Variant], source: BaselineSource) -> list[str]:
    """Name the variants that only one side has, and those that could not be made."""
    found = [f"{each.name} could not be made: {each.reason}" for each in (*wanted, *theirs) if each.state == "failed"]
    if source.runtime is None:
        there = {each.name.removeprefix(pairs.BASELINE) for each in theirs}
        new = [each.name for each in wanted if each.state == "made" and each.name not in there]
        gone = [each.name for each in source.baseline.variants if each.name not in {known.name for known in wanted}]
        found += [f"not judged, because only the candidate has them: {', '.join(new)}"] if new else []
        found += [f"not judged, because only the baseline has them: {', '.join(gone)}"] if gone else []
    return found


def _kept(baseline: Baseline) -> Baseline:
    """The part that run.json keeps; the variants are among the run's own."""
    return baseline.model_copy(update={"variants": ()})
