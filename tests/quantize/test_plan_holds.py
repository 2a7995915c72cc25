"""What ``--plan`` says of a variant is what a build then makes of it: made, the same as another, or impossible."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.quantize.build import build
from harness.quantize.matrix import plan
from harness.quantize.model.model import read_model
from harness.quantize.planning.planner import plan_build
from harness.study.specs import VariantSpec, variant_spec
from harness.study.study import Study, for_model
from harness.study.variants import VariantsSection
from tests.quantize.reported_models import REPORTED, Draft

if TYPE_CHECKING:
    from collections.abc import Callable

SAME = "the same file as "
STATIC = [
    VariantSpec.model_validate({"method": "static", "format": form, "activation": kind, "per_channel": by_channel})
    for form, kind, by_channel in product(("QDQ", "QOperator"), ("QUInt8", "QInt8"), (False, True))
]
RECIPES = [
    variant_spec(method="prepared"),
    variant_spec(method="fp16"),
    variant_spec(method="dynamic"),
    variant_spec(method="dynamic", per_channel=True),
    *STATIC,
    variant_spec(method="static", activation="QUInt16"),
    variant_spec(name="blocks", method="static", activation="QUInt16", weight="QInt4", extra_options={"BlockSize": 32}),
    variant_spec(method="nbits"),
    variant_spec(method="nbits", format="QOperator"),
]


def disagreements(study: Study, folder: Path) -> list[str]:
    """Each variant that came out otherwise than planned."""
    recipes = plan(study)
    told = plan_build(study, recipes, read_model(study.model.path))
    found = []
    for planned, made in zip(told.variants, build(study, folder, recipes=recipes), strict=True):
        shared = any(note.startswith(SAME) for note in made.notes)
        fits = {
            "made": made.state == "made",
            "same": made.state == "made" and shared,
            "impossible": made.state == "impossible",
        }[planned.state]
        if not fits:
            found.append(f"{planned.name}: planned {planned.state}, came out {made.state}: {made.reason}")
    return found


@pytest.mark.parametrize("write", REPORTED, ids=lambda write: write.__name__)
def test_of_reported_models(write: Callable[[Draft], None], tmp_path: Path) -> None:
    draft = Draft()
    write(draft)
    path, data = draft.save(tmp_path)
    study = for_model(path, calibration=str(data), dims={"steps": [3], "past": [3]} if "past" in draft.data else {})
    study = study.model_copy(update={"variants": VariantsSection(methods=["fp32"]), "variant": RECIPES})
    assert disagreements(study, tmp_path / "out") == []
