"""What every device of a campaign gets: cases, how they are measured, and the files that they need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.measure import plan

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from harness.measure import pairs
    from harness.measure.events import FidelityLine
    from harness.measure.plan import Case, Inputs
    from harness.quantize.recipe import Variant
    from harness.study.study import MeasureSection


@dataclass(frozen=True)
class Work:
    """What every device of a campaign gets.

    Attributes:
        cases: what is measured.
        units: the pairs among them that are measured side by side, and the cases that are measured alone.
        variants: by name; those that were made.
        inputs: the evaluation inputs, one file for each set of dimensions.
        measure: how it is measured.
        compare: compares a case's outputs, an .npz file's bytes, with the reference, but for those, by their positions among
            the model's outputs, that differ between two runs on the device.
        seed: of the random order.
        bar: of a gate; without one, everything is measured to a precision.
        run: its name, for messages.
    """

    cases: tuple[Case, ...]
    units: tuple[pairs.Pair, ...]
    variants: Mapping[str, Variant]
    inputs: Sequence[Inputs]
    measure: MeasureSection
    compare: Callable[[str, Case, bytes, Collection[int]], FidelityLine]
    seed: int
    bar: plan.Bar | None = None
    run: str = "RUN"

    def files(self, arch: str) -> dict[str, Path]:
        """The files that a device of an architecture needs, by sha256."""
        needed = {found.sha256: found.path for found in self.inputs}
        for case in self.cases:
            variant = self.variants[case.variant]
            if not plan.misplaced(variant, arch):
                needed |= variant.files()
        return needed
