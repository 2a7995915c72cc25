from __future__ import annotations

from typing import Any, ClassVar

from harness.measure import pairs
from harness.measure.plan import Case
from harness.quantize.recipe import Recipe, Variant
from harness.study.claims_and_gate import ClaimSection


def variant(name: str, **fields: Any) -> Variant:
    recipe = Recipe.model_validate({"name": name, "method": "static", **fields})
    return Variant(recipe=recipe, state="made", sha256=name, size=1)


def case(identifier: str, name: str, threads: int = 1) -> Case:
    return Case(id=identifier, name=f"{name} {threads}", variant=name, threads=threads, provider="CPU", dims={})


VARIANTS = {
    found.name: found
    for found in (
        variant("fp32", method="fp32"),
        variant("qdq-s8", format="QDQ", weight="QInt8"),
        variant("qop-s8", format="QOperator", weight="QInt8"),
        variant("qop-u8", format="QOperator", weight="QUInt8"),
    )
}


def test_every_case_is_paired_with_fp32_of_the_same_settings() -> None:
    cases = [case("c0", "fp32"), case("c1", "qdq-s8"), case("c2", "fp32", 4), case("c3", "qdq-s8", 4)]
    assert pairs.units(cases, VARIANTS) == (("c0", "c1"), ("c2", "c3"))


def test_without_fp32_a_case_is_alone() -> None:
    assert pairs.units([case("c0", "qdq-s8"), case("c1", "qop-s8")], VARIANTS) == (("c0",), ("c1",))
    assert pairs.units([case("c0", "fp32")], VARIANTS) == (("c0",),)


def test_a_claims_pairs_differ_in_nothing_else_and_are_measured_directly() -> None:
    claim = ClaimSection(text="QOperator is faster", faster={"format": "QOperator"}, than={"format": "QDQ"})
    cases = [case("c0", "fp32"), case("c1", "qdq-s8"), case("c2", "qop-s8"), case("c3", "qop-u8")]
    assert pairs.units(cases, VARIANTS, [claim]) == (("c0", "c1"), ("c0", "c2"), ("c0", "c3"), ("c1", "c2"))


def test_a_claim_about_fp32_adds_no_second_pair() -> None:
    claim = ClaimSection(text="int8 is faster", faster={"name": "qdq-s8"}, than={"name": "fp32"})
    cases = [case("c0", "fp32"), case("c1", "qdq-s8")]
    assert pairs.units(cases, VARIANTS, [claim]) == (("c0", "c1"),)


def test_a_runtime_is_compared_with_the_first_one_variant_by_variant() -> None:
    versions = ("1.31.1", "1.23.2")
    cases = [
        case(f"{name}@{version}", name).model_copy(update={"runtime": version})
        for version in versions
        for name in ("fp32", "qdq-s8")
    ]
    assert pairs.units(cases, VARIANTS) == (
        ("fp32@1.31.1", "qdq-s8@1.31.1"),
        ("fp32@1.23.2", "qdq-s8@1.23.2"),
        ("fp32@1.31.1", "fp32@1.23.2"),
        ("qdq-s8@1.31.1", "qdq-s8@1.23.2"),
    )


def test_a_claim_names_data_as_the_study_does_wherever_the_variants_were_made() -> None:
    made = Variant(recipe=Recipe(name="v", method="static", calibration_data="/elsewhere/models/noise.npz"), state="made")
    assert pairs.matches(made, {"calibration_data": "models/noise.npz"})
    assert not pairs.matches(made, {"calibration_data": "random"})
    given = Variant(recipe=Recipe(name="v", method="given", model="/elsewhere/models/qat.onnx"), state="made")
    assert pairs.matches(given, {"model": "qat.onnx"})
    plain = Variant(recipe=Recipe(name="v", method="static"), state="made")
    assert not pairs.matches(plain, {"calibration_data": "random"})


class TestWhatDiffersInNothingElse:
    FOUND: ClassVar = {
        found.name: found
        for found in (
            variant("fp32", method="fp32"),
            variant("prepared", method="prepared"),
            variant("prepared-ort", method="prepared", file_format="ort-arm"),
            variant("fp16", method="fp16", exclude_op_types=("Resize",)),
            variant("dynamic", method="dynamic", weight="QInt8"),
            variant("static", format="QDQ", activation="QUInt8", weight="QInt8", calibration="MinMax"),
            variant("static-pc", format="QDQ", activation="QUInt8", weight="QInt8", calibration="MinMax", per_channel=True),
            variant("static-ort", format="QDQ", activation="QUInt8", weight="QInt8", calibration="MinMax", file_format="ort-arm"),
            variant("nbits", method="nbits", format="QOperator", bits=4, block_size=32, algorithm="DEFAULT", accuracy_level=0),
            variant("nbits-rtn", method="nbits", format="QOperator", bits=4, block_size=32, algorithm="RTN", accuracy_level=4),
            variant("asym", method="dynamic", weight="QInt8", extra_options='{"WeightSymmetric": false}'),
        )
    }

    def pairs_of(self, faster: dict[str, Any], than: dict[str, Any]) -> set[tuple[str, str]]:
        claim = ClaimSection(text="t", faster=faster, than=than)
        return set(pairs.claimed(claim, [case(name, name) for name in self.FOUND], self.FOUND))  # type: ignore[arg-type]

    def test_of_one_method(self) -> None:
        assert self.pairs_of({"file_format": "ort-arm"}, {"file_format": "onnx"}) == {
            ("prepared", "prepared-ort"),
            ("static", "static-ort"),
        }
        # fp32 and fp16 are not per channel either, but that is not all they differ in.
        assert self.pairs_of({"per_channel": True}, {"per_channel": False}) == {("static", "static-pc")}
        assert self.pairs_of({"algorithm": "RTN"}, {"algorithm": "DEFAULT"}) == set()
        assert self.pairs_of({"algorithm": "RTN", "accuracy_level": 4}, {"algorithm": "DEFAULT"}) == {("nbits", "nbits-rtn")}

    def test_of_two_methods(self) -> None:
        assert self.pairs_of({"method": "static"}, {"method": "fp32"}) == {
            ("fp32", name) for name in ("static", "static-pc", "static-ort")
        }
        assert self.pairs_of({"method": "fp16"}, {"method": "static"}) == {("static", "fp16"), ("static-pc", "fp16")}
        assert self.pairs_of({"method": "static"}, {"method": "prepared"}) == {
            ("prepared", "static"),
            ("prepared", "static-pc"),
            ("prepared-ort", "static-ort"),
        }
        assert self.pairs_of({"method": "static"}, {"method": "dynamic"}) == {("dynamic", "static")}
        assert self.pairs_of({"method": "dynamic"}, {"method": "nbits"}) == {
            (one, other) for one in ("nbits", "nbits-rtn") for other in ("dynamic", "asym")
        }

    def test_options(self) -> None:
        assert self.pairs_of({"extra_options": {"WeightSymmetric": False}}, {"extra_options": {}}) == {("dynamic", "asym")}
