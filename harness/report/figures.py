"""The fidelity figures for files that programs read: each under its own name, and the worst parts."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from harness.quantize.verify.fidelity import Fidelity

if TYPE_CHECKING:
    from harness.quantize.verify.parts import Part

# What is a list or an object; a flat file has a sentence in its place.
PARTS = ("outputs", "worst_slice", "worst_sample", "dead")
# Unknown where nothing was compared, and of runs of earlier versions, which did not count.
COUNTS = ("nan_count", "inf_count", "reference_nan_count", "reference_inf_count", "values", "unequal_count", "dead_share")
# A row has it as ``accuracy``.
ELSEWHERE = ("top1_accuracy",)
PLAIN = tuple(field.name for field in fields(Fidelity) if field.name not in {*PARTS, *ELSEWHERE})
NAMES = (*PLAIN, "worst_output", "worst_slice", "worst_slice_sqnr_db", "worst_sample", "worst_sample_sqnr_db", "dead")


def flat(found: Fidelity) -> dict[str, Any]:
    """The figures as columns; what is not known is None."""
    plain = {name: getattr(found, name) for name in PLAIN}
    if not found.outputs:
        plain |= dict.fromkeys(COUNTS)
    worst = [each.name for each in found.outputs if each.sqnr_db is not None and each.sqnr_db == found.sqnr_db]
    return {
        **plain,
        "worst_output": worst[0] if worst else None,
        **_part("worst_slice", found.worst_slice),
        **_part("worst_sample", found.worst_sample),
        "dead": "; ".join(part.name for part in found.dead),
    }


def parts(found: Fidelity) -> dict[str, Any]:
    """The figures of each output and of the parts that stand out, as JSON has objects for them."""
    return {
        "outputs": [vars(each) for each in found.outputs],
        "worst_slice": found.worst_slice and _described(found.worst_slice),
        "worst_sample": found.worst_sample and _described(found.worst_sample),
        "dead": [_described(part) for part in found.dead],
    }


def _part(name: str, part: Part | None) -> dict[str, Any]:
    return {name: part and part.name, f"{name}_sqnr_db": part and part.sqnr_db}


def _described(part: Part) -> dict[str, Any]:
    return {**vars(part), "name": part.name}
