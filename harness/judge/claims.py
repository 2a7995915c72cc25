"""A study's claims, judged on a run: every matching pair on every device, then a verdict for each device and one over all.

Many pairs give chance many chances: the false discovery rate over all pairs of a run is held at 5 % (Benjamini and Hochberg 1995,
J. R. Statist. Soc. B 57:289, as in scipy.stats.false_discovery_control).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from scipy import stats

from harness.errors import Exit
from harness.judge import effects
from harness.judge.timing import Timing
from harness.measure import pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.judge.effects import Effect
    from harness.measure.plan import Case
    from harness.records.run import CaseRecord, DeviceRecord, Run
    from harness.study.claims_and_gate import ClaimSection

Word = Literal["supported", "refuted", "open", "not judged"]
DISCOVERY_RATE = 0.05
EXITS: dict[Word, Exit] = {
    "refuted": Exit.REGRESSED,
    "open": Exit.INCONCLUSIVE,
    "supported": Exit.PASSED,
    "not judged": Exit.INCOMPLETE,
}
ALIASES = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True)
class PairVerdict:
    """A claim on one pair of cases of a device, or on one case for ``fails`` and ``loads``.

    Attributes:
        subject: the case that the claim speaks of; than: the one that it is compared with.
        effect: what was measured; None for an outcome.
        p: of the finding, adjusted for all pairs of the run; None for what has no distribution.
        reason: why it is open or not judged; for an outcome what happened.
        evidence: what an emulated device tells in the place of times; it decides nothing.
    """

    device: str
    subject: str
    than: str | None
    verdict: Word
    effect: Effect | None = None
    p: float | None = None
    reason: str | None = None
    evidence: Effect | None = None


@dataclass(frozen=True)
class DeviceVerdict:
    """A claim on a device: refuted by any pair that refutes it, supported when every judged pair supports it."""

    device: str
    verdict: Word
    pairs: tuple[PairVerdict, ...]
    reason: str | None = None


@dataclass(frozen=True)
class ClaimVerdict:
    """A claim over all devices that it is about."""

    claim: ClaimSection
    verdict: Word
    devices: tuple[DeviceVerdict, ...]
    reason: str | None = None


def judge(run: Run) -> tuple[ClaimVerdict, ...]:
    """Judge every claim of a run's study."""
    found = [(claim, _places(claim, run), _pairs(claim, run)) for claim in run.study.claim]
    every = [pair for _, _, each in found for pair in each]
    tested = [pair for pair in every if pair.p is not None]
    adjusted = iter(stats.false_discovery_control([pair.p for pair in tested])) if tested else iter(())
    sure = {id(pair): _settled(pair, float(next(adjusted))) for pair in tested}
    return tuple(_claim(claim, places, [sure.get(id(pair), pair) for pair in each], run) for claim, places, each in found)


def _settled(pair: PairVerdict, p: float) -> PairVerdict:
    """The verdict on a pair after the correction for multiple comparisons."""
    if p <= DISCOVERY_RATE:
        return replace(pair, p=p)
    assert pair.effect is not None  # noqa: S101 - what has a p has an effect
    return replace(pair, verdict="open", p=p, reason=pair.effect.shortfall)


def _places(claim: ClaimSection, run: Run) -> list[DeviceRecord]:
    """The devices that a claim is about."""
    return [device for device in run.devices if _holds_on(claim, device)]


def _holds_on(claim: ClaimSection, device: DeviceRecord) -> bool:
    entry, facts = device.entry, device.facts
    for key, wanted in claim.on.items():
        if key == "tag":
            fits = wanted.removeprefix("@") in entry.tags
        elif key == "device":
            fits = fnmatchcase(entry.name, wanted)
        elif key == "emulated":
            fits = (device.emulated or "no") == wanted
        elif key == "arch":
            fits = facts is not None and _arch(facts.arch) == _arch(wanted)
        elif key == "feature":
            fits = facts is not None and wanted in facts.features
        else:
            fits = True
        if not fits:
            return False
    return True


def _arch(name: str) -> str:
    return ALIASES.get(name.lower(), name.lower())


def _runs(claim: ClaimSection, case: Case, device: DeviceRecord) -> bool:
    """Whether the claim is about the case's version of onnxruntime."""
    wanted = claim.on.get("runtime")
    version = case.runtime or (device.facts.onnxruntime.version if device.facts else None)
    if wanted is None:
        return True
    try:
        return version is not None and version in SpecifierSet(wanted if wanted[:1] in "<>=!~" else f"=={wanted}")
    except InvalidSpecifier:
        return False


def _pairs(claim: ClaimSection, run: Run) -> list[PairVerdict]:
    """Judge each pair on each device by itself."""
    variants = {variant.name: variant for variant in run.variants}
    found: list[PairVerdict] = []
    for device in _places(claim, run):
        name = device.entry.name
        records = {record.case: record for record in run.results if record.device == name}
        cases = [case for case in run.cases if case.id in records and _runs(claim, case, device)]
        if claim.kind in {"fails", "loads"}:
            found += _outcomes(claim, run, device, cases, records)
            continue
        names = {case.id: case.name for case in run.cases}
        timing = Timing(name, () if device.emulated else run.launches, {}, names)
        for than, subject in pairs.claimed(claim, cases, variants):
            both = records[than], records[subject]
            pair = PairVerdict(name, names[subject], names[than], "not judged")
            found.append(_judge(claim, run, device, timing, both, pair))
    return found


def _judge(
    claim: ClaimSection, run: Run, device: DeviceRecord, timing: Timing, both: tuple[CaseRecord, CaseRecord], pair: PairVerdict
) -> PairVerdict:
    """Judge one pair without regard to the others."""
    for record in both:
        if record.state == "failed":
            return replace(pair, reason=f"{record.kind}: {record.reason}")
    if claim.kind in {"faster", "same_speed"} and claim.metric != "instructions" and device.emulated:
        return replace(
            pair,
            evidence=effects.instructions(both),
            reason=f"the device is emulated ({device.emulated}), so its times mean nothing",
        )
    effect = effects.measured(claim, run, timing, both)
    if isinstance(effect, str):
        return replace(pair, reason=effect)
    told = effect.told(*claim.bounds)
    word, p = told.against(*claim.bounds)
    return replace(pair, verdict=word, effect=told, p=p, reason=told.shortfall if word == "open" else None)


def _outcomes(
    claim: ClaimSection, run: Run, device: DeviceRecord, cases: Sequence[Case], records: dict[str, CaseRecord]
) -> list[PairVerdict]:
    """Judge a claim that variants fail, or that they load and run, case by case."""
    found = []
    name = device.entry.name
    for variant in run.variants:
        if not pairs.matches(variant, claim.subject):
            continue
        of_variant = [case for case in cases if case.variant == variant.name]
        if variant.state == "failed":
            found.append(_outcome(claim, name, variant.name, works=False, reason=f"can't be made: {variant.reason}"))
        for case in of_variant:
            record = records[case.id]
            if record.state in {"unmeasured", "impossible"}:
                found.append(PairVerdict(name, case.name, None, "not judged", reason=record.reason))
            else:
                words = f"{record.kind}: {record.reason}" if record.state == "failed" else "the variant loads and runs"
                found.append(_outcome(claim, name, case.name, works=record.state == "measured", reason=words))
    return found


def _outcome(claim: ClaimSection, device: str, subject: str, *, works: bool, reason: str) -> PairVerdict:
    holds = works == (claim.kind == "loads")
    return PairVerdict(device, subject, None, "supported" if holds else "refuted", reason=reason)


def _claim(claim: ClaimSection, places: Sequence[DeviceRecord], found: Sequence[PairVerdict], run: Run) -> ClaimVerdict:
    """Combine the verdicts on pairs, for each device and over all devices."""
    if not places:
        wanted = ", ".join(f"{key} = {value}" for key, value in claim.on.items())
        return ClaimVerdict(claim, "not judged", (), f"no device of this run has {wanted}")
    devices = []
    for device in places:
        own = tuple(pair for pair in found if pair.device == device.entry.name)
        reason = None
        if not own:
            reason = f"{device.step}: {device.reason}" if device.state == "failed" else _nothing(claim, run)
        devices.append(DeviceVerdict(device.entry.name, together([pair.verdict for pair in own]), own, reason))
    return ClaimVerdict(claim, together([each.verdict for each in devices]), tuple(devices))


def _nothing(claim: ClaimSection, run: Run) -> str:
    """Why a claim has no pair."""
    known = {variant.name: variant for variant in run.variants}
    sides = [claim.subject, claim.than] if claim.than is not None else [claim.subject]
    for traits in sides:
        matching = [variant for variant in known.values() if pairs.matches(variant, traits)]
        words = ", ".join(f"{key} = {value}" for key, value in traits.items())
        if not matching:
            return f"no variant of this study has {words}"
        if all(variant.state != "made" for variant in matching):
            return f"no variant with {words} could be made: {matching[0].reason}"
    if claim.on.get("runtime"):
        return f"no case runs under onnxruntime {claim.on['runtime']}"
    return "no two variants of the study differ only in what the claim compares"


def together(words: Sequence[Word]) -> Word:
    """Combine several verdicts; those that were not judged are ignored."""
    order: tuple[Word, ...] = ("refuted", "open", "supported")
    return next((word for word in order if word in words), "not judged")
