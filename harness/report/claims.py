"""Render claims: a line for each pair, and a sentence for each claim, on each device and over all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.report.numbers import UNKNOWN, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.judge.claims import ClaimVerdict, DeviceVerdict, PairVerdict
    from harness.judge.effects import Effect
    from harness.study.claims_and_gate import ClaimSection

TITLES = ("claim", "device", "case", "against", "measured", "claimed", "verdict")
STYLES = {"supported": "good", "refuted": "bad", "not judged": "dim"}


def rows(found: Sequence[ClaimVerdict]) -> tuple[tuple[tuple[str, ...], ...], tuple[str | None, ...]]:
    """A line for each pair; a device without pairs has one line that says so."""
    lines: list[tuple[str, ...]] = []
    styles: list[str | None] = []
    for number_of, claim in enumerate(found, 1):
        label = str(number_of)
        for device in claim.devices:
            for pair in device.pairs:
                lines.append(
                    (label, device.device, pair.subject, pair.than or "", measured(pair), asked(claim.claim), pair.verdict)
                )
                styles.append(STYLES.get(pair.verdict))
            if not device.pairs:
                lines.append((label, device.device, "", "", UNKNOWN, asked(claim.claim), device.verdict))
                styles.append(STYLES.get(device.verdict))
        if not claim.devices:
            lines.append((label, UNKNOWN, "", "", UNKNOWN, asked(claim.claim), claim.verdict))
            styles.append(STYLES.get(claim.verdict))
    return tuple(lines), tuple(styles)


def measured(pair: PairVerdict) -> str:
    """The effect with its interval."""
    if pair.evidence is not None:
        return f"{effect(pair.evidence)} instr."
    return UNKNOWN if pair.effect is None else effect(pair.effect)


def effect(found: Effect) -> str:
    """A ratio, or a difference in points of top-1 or in decibels."""
    scale = 100 if found.unit == "points" else 1
    sign = "" if found.unit == "×" else "+"
    unit = "×" if found.unit == "×" else f" {found.unit}"

    def shown(value: float) -> str:
        return number(value, 4) if found.unit == "×" else f"{scale * value:{sign}.2f}"

    if found.low is None or found.high is None:
        return f"{shown(found.value)}{unit} [?]"
    if found.low == found.high:
        return f"{shown(found.value)}{unit}"
    return f"{shown(found.value)}{unit} [{shown(found.low)}, {shown(found.high)}]"


def asked(claim: ClaimSection) -> str:
    """The bounds of the claim as text."""
    if claim.kind in {"fails", "loads"}:
        return claim.kind
    low, high = claim.bounds
    if claim.kind == "more_accurate":
        return f"more by {low:g}" if low else "more"
    what = "fewer instr." if claim.metric == "instructions" else "smaller" if claim.kind == "smaller" else "faster"
    if low is not None and high is not None:
        return f"{low:.3g}–{high:.3g}× {what}"
    return f"above {low:g}× {what}"


def lines(found: Sequence[ClaimVerdict]) -> list[str]:
    """A sentence for each claim and device, and one over all devices; then a note on the correction for multiple comparisons."""
    said = []
    tested = 0
    for number_of, claim in enumerate(found, 1):
        over = f" ({claim.reason})" if claim.reason else ""
        said.append(f"[{number_of}] {claim.claim.text}: {claim.verdict.upper()}{over}")
        said += [f"    {sentence(claim.claim, device)}" for device in claim.devices]
        tested += sum(pair.p is not None for device in claim.devices for pair in device.pairs)
    if found:
        said.append(
            "a ratio above 1× means that the first case is better: it is so many times faster or smaller, or runs so many times fewer "
            "instructions, than the second"
        )
    if tested:
        said.append(
            f"{tested} comparison{'s' if tested > 1 else ''} with a margin of error; at most 5 % of their verdicts are expected to be wrong "
            "(Benjamini-Hochberg)"
        )
    return said


def sentence(claim: ClaimSection, device: DeviceVerdict) -> str:
    """The verdict on a claim on one device, as a sentence."""
    if not device.pairs:
        return f"{device.device}: not judged: {device.reason or 'there is nothing to compare'}"
    counts = {word: sum(pair.verdict == word for pair in device.pairs) for word in ("supported", "refuted", "open", "not judged")}
    total = len(device.pairs)
    parts = [f"{count} {word}" for word, count in counts.items() if count]
    words = f"{device.device}: {device.verdict}"
    if total > 1:
        words += f": of {total} {'cases' if claim.kind in {'fails', 'loads'} else 'pairs'} {', '.join(parts)}"
    effects = [pair.effect for pair in device.pairs if pair.effect is not None]
    words += _range(effects[0].what, effects) if effects else ""
    words += _range("instructions instead", [pair.evidence for pair in device.pairs if pair.evidence is not None])
    reasons = list(dict.fromkeys(pair.reason for pair in device.pairs if pair.reason))
    return words + (f"; {'; '.join(reasons[:3])}{'; …' if len(reasons) > 3 else ''}" if reasons else "")  # noqa: PLR2004 - a few


def _range(what: str, effects: Sequence[Effect]) -> str:
    """One effect, or the smallest and the largest of several."""
    found = sorted(effects, key=lambda each: each.value)
    if not found:
        return ""
    return f"; {what} {effect(found[0])}" if len(found) == 1 else f"; {what} from {effect(found[0])} to {effect(found[-1])}"


def content(found: Sequence[ClaimVerdict]) -> list[dict[str, Any]]:
    """For JSON."""
    return [
        {
            "text": claim.claim.text,
            "kind": claim.claim.kind,
            "verdict": claim.verdict,
            "reason": claim.reason,
            "devices": [
                {
                    "device": device.device,
                    "verdict": device.verdict,
                    "sentence": sentence(claim.claim, device),
                    "pairs": [
                        {
                            "case": pair.subject,
                            "against": pair.than,
                            "verdict": pair.verdict,
                            "reason": pair.reason,
                            "p_adjusted": pair.p,
                            "what": pair.effect.what if pair.effect else None,
                            "unit": pair.effect.unit if pair.effect else None,
                            "value": pair.effect.value if pair.effect else None,
                            "low": pair.effect.low if pair.effect else None,
                            "high": pair.effect.high if pair.effect else None,
                            "processes": pair.effect.processes if pair.effect else None,
                            "instructions_instead": pair.evidence.value if pair.evidence else None,
                        }
                        for pair in device.pairs
                    ],
                }
                for device in claim.devices
            ],
        }
        for claim in found
    ]
