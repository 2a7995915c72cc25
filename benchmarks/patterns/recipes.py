"""The recipes that each structure goes through."""

from __future__ import annotations

from itertools import product

from harness.study.specs import VariantSpec, variant_spec

TYPES = (("QUInt8", "QInt8"), ("QInt8", "QInt8"), ("QUInt8", "QUInt8"))


def all_recipes() -> list[VariantSpec]:
    """One of each method, and both integer formats with every pair of types, by tensor and by channel."""
    found = [variant_spec(method="prepared"), variant_spec(method="fp16")]
    for weight, by_channel in product(("QInt8", "QUInt8"), (False, True)):
        found.append(VariantSpec.model_validate({"method": "dynamic", "weight": weight, "per_channel": by_channel}))
    for form, (activation, weight), by_channel in product(("QDQ", "QOperator"), TYPES, (False, True)):
        found.append(
            VariantSpec.model_validate(
                {"method": "static", "format": form, "activation": activation, "weight": weight, "per_channel": by_channel}
            )
        )
    found.append(variant_spec(method="static", activation="QUInt16"))
    return [*found, variant_spec(method="nbits"), variant_spec(method="nbits", format="QOperator")]
