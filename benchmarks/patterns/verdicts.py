"""What became of a variant, and whether somebody who reads what the harness says would know why.

``fine``        the worst output, slice and sample are at 15 dB or more, or nothing was to be compared
``rounding``    below, but within 3 dB of what plain arithmetic gives that rounds the same tensors to as many bits
``told``        below that, and a note on the variant names the part that is lost, or the node
``dead``        parts are constant or not finite and named in a note; plain rounding kills parts, too
``broken``      parts are constant or not finite and named in a note, but plain rounding would keep them: told, not mended
``impossible``  a rule of the planner
``refused``     failed, with a reason that names a node or tensor of the model, in words of the harness
``choice``      only outputs behind a choice (``choices.py``) are below: what is chosen differs where candidates are near each other
``incomparable``  outputs have other shapes, as those of detectors do whose number of boxes varies; the harness says so
``withheld``    the float model does not reproduce itself, and the harness says so
``unexplained`` everything else
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from harness.quantize.recipe import Variant
    from harness.quantize.verify.fidelity import Fidelity

FLOOR = 15.0  # dB
MARGIN = 3.0  # dB
DEAD = -100.0  # a merit below this tells of dead parts
EXPLAINED = ("fine", "rounding", "told", "dead", "broken", "impossible", "refused", "choice", "incomparable", "withheld")
OUTCOMES = (*EXPLAINED, "unexplained")
# How an exception of Python, numpy or onnxruntime begins when it is the whole reason.
RAW = re.compile(
    r"^(calibration by \w+ failed: )?\w*(Error|Exception|Fail|InvalidGraph|InvalidArgument|NotImplemented|InvalidProtobuf): "
)
# Words of notes on what a variant loses, as opposed to what a step did to keep it from losing.
LOSS = re.compile(
    r"loses|lost|overflow|is clipped|saturat|beyond the range|outside the range|exceeds|does not load|refuses|is constant|are constant|"
    r"not finite|far below|lowers the accuracy|dominat"
)


def of_failure(variant: Variant, names: Collection[str]) -> tuple[str, str]:
    """Judge a variant that was not made: the outcome and why."""
    reason = variant.reason or ""
    if variant.state == "impossible":
        return "impossible", reason
    named = any(f"'{name}'" in reason or f"({name})" in reason for name in names)
    return ("unexplained" if RAW.match(reason) or not named else "refused"), reason


def of_made(
    found: Fidelity, notes: Sequence[str], ideal: float | None, names: Collection[str], chosen: Collection[str]
) -> tuple[str, str]:
    """Judge a variant that was made and run.

    Args:
        found: compared with fp32.
        notes: on the variant.
        ideal: merit of plain rounding; None where there is none.
        names: of the model's nodes and tensors.
        chosen: outputs behind a choice.
    """
    if found.merit >= FLOOR or found.sqnr_db is None:
        return "fine", ""
    if found.dead or found.unequal_count:
        if not found.notes:
            return "unexplained", "dead parts without a note"
        alike = ideal is not None and ideal < DEAD
        return "dead" if alike else "broken", "; ".join(found.notes)
    if ideal is not None and found.merit >= ideal - MARGIN:
        return "rounding", f"{found.merit:.1f} dB, plain rounding {ideal:.1f} dB"
    if chosen and all(each.sqnr_db is None or each.sqnr_db >= FLOOR for each in found.outputs if each.name not in chosen):
        return "choice", f"{found.merit:.1f} dB in what is chosen"
    told = [note for note in notes if LOSS.search(note) and any(f"'{name}'" in note for name in names)]
    told += found.notes
    text = f"{found.merit:.1f} dB, plain rounding {'none' if ideal is None else f'{ideal:.1f} dB'}"
    return ("told", f"{text}: {told[0]}") if told else ("unexplained", text)


def number(value: float | None) -> float | None:
    """Round for JSON; what is not finite is None."""
    return None if value is None or not math.isfinite(value) else round(value, 1)
