"""Print a plan on 80 columns: variants to build, duplicates, impossible ones, and how devices run them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.text import Text

from harness.cli.grid import grid
from harness.text import sanitize

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from harness.quantize.planning.forecast import Forecast
    from harness.quantize.planning.planner import Known, Plan, PlannedVariant

EFFECTS = ("refused", "wrong", "less accurate", "slow")
KINDS = 4  # op types that a line names


def show(plan: Plan, out: Console) -> None:
    """Print a plan."""
    for note in plan.notes:
        out.print(f"! {sanitize(note)}", markup=False, soft_wrap=True)
    made = plan.of("made")
    notes = _numbered(known for each in made for known in each.caveats)
    if made:
        _heading(out, f"to build ({len(made)})")
        rows = [[each.name, _megabytes(each.size), _kinds(each), _numbers(each, notes)] for each in made]
        out.print(grid(["variant", "size, about", "works on", "see"], rows))
        for text, number in notes.items():
            _line(out, f"{number}. {text}")
    if same := plan.of("same"):
        _heading(out, f"duplicates of another variant, built once ({len(same)})")
        rows = [[each.name, each.same_as or "", each.why.text if each.why else ""] for each in same]
        out.print(grid(["variant", "the same as", "why"], rows))
    if impossible := plan.of("impossible"):
        _heading(out, f"impossible ({len(impossible)})")
        for text, names in _grouped((each.why.sentence, each.name) for each in impossible if each.why).items():
            _line(out, f"{text}: {', '.join(names)}", dash=True)
    for name, what in plan.platforms.items():
        _platform(out, plan, name, what)
    _needs(out, plan)


def _platform(out: Console, plan: Plan, name: str, what: str) -> None:
    """Print what rules say about the variants on a platform."""
    found = [(warning, each.name) for each in plan.variants for warning in each.warnings if warning.platform == name]
    found.sort(key=lambda pair: EFFECTS.index(pair[0].effect))
    warned = [(f"{warning.effect}: {warning.sentence}", variant) for warning, variant in found]
    # A platform that was described on the command line is called by its description.
    _heading(out, f"on {name}" + ("" if "," in name else f" ({_short(what)})"))
    if not warned:
        _line(out, "no rule applies; that is no recommendation: measure it", dash=True)
    for text, names in _grouped(warned).items():
        _line(out, f"{text}: {', '.join(names)}", dash=True)


def _needs(out: Console, plan: Plan) -> None:
    """Print the estimated cost."""
    needs = plan.needs
    _heading(out, "estimated cost")
    _line(out, f"{len(plan.of('made'))} files, about {_megabytes(plan.disk)} together", dash=True)
    if needs.passes:
        _line(out, _calibration(needs), dash=True)
    if needs.seconds is not None:
        _line(out, f"about {_duration(needs.seconds)} on this machine, if it is otherwise idle (within a factor of 3)", dash=True)
    if needs.checks:
        what = "verifying the prepared model and the variants on one sample"
        _line(out, f"{what}: {_duration(needs.checks)}{' of that' if needs.seconds is not None else ''}", dash=True)
    if needs.unknown:
        _line(
            out,
            f"the shapes of {needs.unknown} tensors are known only when the model runs; these tensors are not counted",
            dash=True,
        )
    if plan.assumed:
        names = " ".join(f"--dim {name}=…" for name in plan.assumed)
        _line(out, f"dimensions without a value count as 1; to set them: harness quantize --plan {names}", dash=True)


def _calibration(needs: Forecast) -> str:
    times = "one inference" if needs.passes == 1 else f"{needs.passes} inferences"
    samples = "each sample" if needs.samples is None else f"each of {needs.samples} samples"
    cost = f", {_duration(needs.seconds_per_sample)} each" if needs.seconds is None else ""
    return (
        f"calibration: {times} for {samples}{cost}; {_megabytes(needs.activations)} of activations at a time, "
        f"{_megabytes(needs.memory)} of memory in total, in addition to Python's"
    )


def _numbered(found: Iterable[Known]) -> dict[str, int]:
    """Number the notes, each once."""
    texts = dict.fromkeys(known.sentence for known in found)
    return {text: number for number, text in enumerate(texts, 1)}


def _numbers(variant: PlannedVariant, notes: dict[str, int]) -> str:
    return " ".join(str(notes[known.sentence]) for known in variant.caveats)


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for text, name in pairs:
        groups.setdefault(text, []).append(name)
    return groups


def _kinds(variant: PlannedVariant) -> str:
    shown = [f"{count} {kind}" for kind, count in list(variant.nodes.items())[:KINDS]]
    more = sum(list(variant.nodes.values())[KINDS:])
    return ", ".join([*shown, *([f"{more} more"] if more else [])])


def _megabytes(count: int | None) -> str:
    from harness.report.numbers import size

    return size(count)


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.0005 else "less than 1 ms"  # noqa: PLR2004 - what rounds to 1 ms
    if seconds < 10:  # noqa: PLR2004 - one digit
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"  # noqa: PLR2004 - two minutes


def _short(what: str) -> str:
    """Name a platform, without the features that no rule uses."""
    from harness.devices.facts import TELLING

    words = what.split(", ")
    return ", ".join(word for word in words if word in TELLING or word in {words[0], words[-1]})


def _heading(out: Console, text: str) -> None:
    out.print(Text(f"\n{sanitize(text)}", style="bold"))


def _line(out: Console, text: str, *, dash: bool = False) -> None:
    """Print a paragraph with a hanging indent."""
    out.print(Padding(Text(f"{'- ' if dash else ''}{sanitize(text)}"), (0, 0, 0, 2), expand=False))
