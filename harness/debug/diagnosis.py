"""Where a variant loses accuracy: one diagnosis, filled in step by step, so that what was found is there when it is interrupted."""

from __future__ import annotations

import math
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import onnx

from harness import paths
from harness.debug import evaluation, exclusion, scan, tensors, weights
from harness.debug.findings import Compared
from harness.debug.trial import Clock, Trials, has_bodies
from harness.errors import SelectionError, UsageError
from harness.quantize import build, matrix, metric
from harness.quantize.calibration.ranges import Ranges
from harness.quantize.context import BuildContext
from harness.quantize.data import load
from harness.quantize.data.dims import resolve_dims
from harness.quantize.reasons import reason_of
from harness.quantize.verify import reproducibility
from harness.quantize.verify.original import Original
from harness.quantize.verify.pairing import ShapeError
from harness.quantize.verify.parts import in_db

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from harness.debug.evaluation import Evaluation
    from harness.debug.findings import Diagnosis
    from harness.debug.scan import Sensitivity
    from harness.quantize.model.model import SourceModel
    from harness.quantize.recipe import Recipe, Variant
    from harness.study.study import Study

# Of the time: one comparison of a variant over the evaluation inputs; op types; nodes, of what is left then.
COMPARE_SHARE, TYPES_SHARE, NODES_SHARE = 0.02, 0.25, 0.5
COMPARE_LEAST = 1.0  # seconds of one comparison, however short the time is: most models answer all samples in these
# Where preparation alone takes the outputs farther than this, in dB, it has changed more than the order of sums.
PREPARED_DB = 80.0
SUSPECTS = 8  # tensors whose nodes are excluded together


def diagnose(
    study: Study,
    found: Diagnosis,
    *,
    globs: Sequence[str] = (),
    samples: int = 16,
    max_time: float = 120.0,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Compare a study's variants with fp32, and explain the worst of them.

    Args:
        study: the question.
        found: is filled in.
        globs: names of variants; without, all of the study's.
        samples: feeds that tensors and trials are computed over.
        max_time: seconds for the scan and the proposals.
        say: is told what begins.

    Raises:
        UsageError: if the study, its model or its data can't be used, or none of the variants can exist.
    """
    if study.is_given:
        message = f"{study.model.path}: a model with method given has no float model to compare with; debug a study that quantizes the float model"
        raise UsageError(message)
    source = build.open_source(study)
    dims = resolve_dims(source, study.model.dims)[0]
    recipes = [recipe for recipe in matrix.select(matrix.plan(study), globs) if recipe != matrix.REFERENCE]
    if not recipes:
        message = "the study has no variant beside fp32: name methods under [variants] or add a [[variant]]"
        raise SelectionError(message)
    feeds = load.load(study.model.evaluation or study.model.calibration, source, dims, what="evaluation")
    figure = metric.load(study.model.metric) if study.model.metric else None
    whole = evaluation.begin(
        study.model.path,
        feeds,
        figure,
        seconds=max(COMPARE_LEAST, COMPARE_SHARE * max_time),
        least=samples,
        output=study.model.output,
    )
    found.notes += [*feeds.notes, *whole.notes]
    if whole.difference is None and (suspicion := reproducibility.suspicion(source.proto)):
        found.notes.append(suspicion)
    found.compared_samples, found.evaluation_samples = len(whole.reference), len(feeds.feeds)
    if found.compared_samples < found.evaluation_samples:
        found.notes.append(
            f"outputs are compared over the first {found.compared_samples} of {found.evaluation_samples} evaluation samples; "
            "a longer --max-time compares more"
        )
    found.samples = min(samples, len(whole.reference))
    with TemporaryDirectory(prefix="quant-harness-debug-") as name:
        folder = Path(name)
        say(f"making {len(recipes)} variant{'s' if len(recipes) > 1 else ''} of {source.path.name}")
        _compare(study, source, dims, recipes, whole, folder, found)
        if not whole.is_comparable:
            found.notes.append("no variant can be explained, because fp32 has no output that can be compared")
            return
        found.chosen = _worst(found)
        if found.chosen is None:
            return
        with _context(study, source, dims, found.chosen.variant.recipe, folder) as context:
            _explain(found, context, whole, Clock(max_time), say)


def _compare(
    study: Study,
    source: SourceModel,
    dims: Mapping[str, int],
    recipes: Sequence[Recipe],
    whole: Evaluation,
    folder: Path,
    found: Diagnosis,
) -> None:
    """Make the variants, and run each as soon as it is made.

    Raises:
        UsageError: if none of them can exist.
    """

    def made(variant: Variant) -> None:
        if variant.state != "made" or variant.path is None:
            found.compared.append(Compared(variant, variant.state, reason=variant.reason))
            return
        try:
            score = whole.score(variant.path)
            found.compared.append(Compared(variant, "made", score, reason=score.refusal))
        except ShapeError as exc:
            found.compared.append(Compared(variant, "made", reason=str(exc)))
        except Exception as exc:  # noqa: BLE001 - whatever onnxruntime says of this variant
            found.compared.append(Compared(variant, "failed", reason=reason_of(exc, [folder])))

    build.build(study, folder / "variants", model=source, dims=dims, recipes=recipes, cache=paths.variants(), on_event=made)
    if all(each.state == "impossible" for each in found.compared):
        message = "\n".join(f"variant '{each.variant.name}' can't exist: {each.reason}" for each in found.compared)
        raise UsageError(message)


def _worst(found: Diagnosis) -> Compared | None:
    """The variant whose outputs are farthest from fp32's; none if all are exactly fp32's or could not be run."""
    scored = [each for each in found.compared if each.score is not None]
    if not scored:
        # What is inside can be compared where the outputs can't.
        return next((each for each in found.compared if each.state == "made"), None)
    worst = min(scored, key=lambda each: each.score.merit if each.score else math.inf)
    if worst.score is not None and worst.score.fidelity.identical:
        found.notes.append(f"the outputs of {worst.variant.name} are exactly fp32's: nothing is lost")
        return None
    if worst.score is not None and worst.score.fidelity.is_exact:
        found.notes.append(f"the outputs of {worst.variant.name} that are compared are exactly fp32's, but not all are compared")
    return worst


@contextmanager
def _context(study: Study, source: SourceModel, dims: Mapping[str, int], recipe: Recipe, folder: Path) -> Iterator[BuildContext]:
    """What the trials of a recipe share: the prepared model and one calibration."""
    name = recipe.calibration_data
    samples = {}
    if build.needs_calibration([recipe]):
        samples = {name: load.load(name or study.model.calibration, source, dims, what="calibration")}
    shared = folder / "context"
    shared.mkdir()
    # The ranges that the variants were made from, kept by the build.
    original = Original(source, dims, tuple(samples.values()), study.model.calibration)
    context = BuildContext(source, samples, shared, recipe.op_types, kept=Ranges(paths.variants() / "ranges"), original=original)
    context.sample = None  # a trial is evaluated on several samples anyway
    yield context


def _explain(found: Diagnosis, context: BuildContext, whole: Evaluation, clock: Clock, say: Callable[[str], None]) -> None:
    """Fill in what is known of the chosen variant, the surest first."""
    assert found.chosen is not None  # noqa: S101 - asked for only then
    variant = found.chosen.variant
    # A file of onnxruntime's own format can't be looked into; the same recipe as ONNX can.
    recipe = variant.recipe.model_copy(update={"file_format": "onnx"})
    if has_bodies(context.source.proto):
        found.notes.append(
            "nodes in the bodies of If, Loop and Scan are not examined, because onnxruntime's tools quantize only the main graph"
        )
    few = whole.first(found.samples)
    trials = Trials(recipe, context, few)
    say(f"{variant.name}: comparing tensors over {found.samples} samples")
    _look_inside(found, trials, variant)
    if found.chosen.score is None:
        found.notes.append(
            f"{variant.name}: its outputs can't be compared with fp32's, so nodes are neither scanned nor proposed; look at the "
            "tensors, or give the part of the model before the nodes that select results, such as NonMaxSuppression"
        )
        return
    found.scannable = len(trials.nodes())
    by_loss = sorted((loss for loss in found.tensors if loss.lost_db), key=lambda loss: -(loss.lost_db or 0))
    # Where a part of the outputs is dead, the tensors of which most is dead come first.
    dead = [loss for loss in found.tensors if loss.dead] if found.chosen.score.fidelity.dead else []
    dead.sort(key=lambda loss: -loss.dead_share)
    suspicion = _suspicion([loss.node for loss in dead], [loss.node for loss in by_loss], [loss.node for loss in found.weights])
    say(f"{variant.name}: quantizing one op type at a time")
    _sorted_in(found.op_types, scan.by_op_type(trials, suspicion if dead else {}, clock.share(TYPES_SHARE)))
    left = scan.order(trials, found.op_types, suspicion)
    say(f"{variant.name}: quantizing one node at a time, {len(left)} nodes")
    _sorted_in(found.nodes, scan.by_node(trials, found.op_types, suspicion, clock.share(NODES_SHARE)))
    if len(found.nodes) < len(left):
        found.notes.append(
            f"the time limit was reached after {len(found.nodes)} of {len(left)} nodes; give a longer --max-time, or fewer --samples"
        )
    say(f"{variant.name}: looking for nodes to exclude")
    suspects = list(dict.fromkeys((*dead[:SUSPECTS], *by_loss[:SUSPECTS], *found.tensors[:SUSPECTS])))
    found.exclusions.extend(exclusion.propose(trials, whole, found.nodes, suspects, clock))
    if clock.left <= 0:
        found.notes.append("the time limit was reached during the search for nodes to exclude; a longer --max-time may find more")
    elif not found.exclusions:
        found.notes.append(
            "the loss is spread out: no node that was tried gains 0.5 dB when it is left in float; "
            "per_channel, another calibration or 16-bit activations may help"
        )


def _suspicion(*rankings: Sequence[str]) -> dict[str, int]:
    """The best place of each node in any of the rankings."""
    found: dict[str, int] = {}
    for ranking in rankings:
        for place, name in enumerate(dict.fromkeys(ranking)):
            found[name] = min(place, found.get(name, place))
    return found


def _look_inside(found: Diagnosis, trials: Trials, variant: Variant) -> None:
    """Compare tensors and weights; a graph that can't be opened up costs no more than this."""
    path, prepared = variant.path, trials.context.model(trials.recipe)
    if path is None or variant.recipe.file_format != "onnx":
        found.notes.append(
            "the tensors of a file in onnxruntime's own format can't be read; the scan uses the same recipe in the ONNX format"
        )
        return
    qdq = variant.recipe.method == "static" and variant.recipe.format == "QDQ"
    folder = trials.context.folder / "opened"
    folder.mkdir()
    try:
        if note := preparation_note(trials.evaluation, prepared.path):
            found.notes.append(note)
        found.weights = weights.rank(onnx.load(prepared.path) if prepared.is_large else prepared.proto, onnx.load(path))
        found.tensors, found.exact = tensors.rank(prepared.path, path, list(trials.evaluation.feeds), folder, qdq=qdq)
    except Exception as exc:  # noqa: BLE001 - onnxruntime refuses to open some graphs up; the outputs can be compared all the same
        found.notes.append(f"the tensors could not be compared: {reason_of(exc, [folder, trials.context.folder])}")


def preparation_note(evaluation: Evaluation, prepared: Path) -> str | None:
    """Say so if the float model that tensors are compared with is far from the user's."""
    try:
        changed = evaluation.score(prepared).fidelity
    except ShapeError as exc:
        return f"the prepared float model: {exc}"
    if changed.identical or changed.merit >= PREPARED_DB or changed.sqnr_db is None:
        return None
    return (
        f"preparation alone changes the outputs (SQNR {in_db(changed.sqnr_db)}): tensors and weights are compared with the prepared "
        "model, which does not show what preparation changed"
    )


def _sorted_in(into: list[Sensitivity], found: Iterator[Sensitivity]) -> None:
    """Keep each as soon as it is known, so that an interrupt loses none."""
    try:
        into.extend(found)
    finally:
        into.sort(key=lambda each: each.merit)
