from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest
from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.registry import IntegerOpsRegistry, QLinearOpsRegistry

from harness.quantize.calibration import Reader
from harness.quantize.graph import is_quantized, nodes
from harness.quantize.matrix import REFERENCE
from harness.quantize.quiet import quiet
from harness.quantize.recipe import Recipe
from harness.quantize.rules import DYNAMIC_OPS, QOPERATOR_OPS, RULES, impossible
from tests.models import images

if TYPE_CHECKING:
    from pathlib import Path


class TestRulesOnTheRealLibrary:
    """Each rule is what onnxruntime does, not what we believe."""

    def quantized_nodes(self, path: Path) -> int:
        return sum(is_quantized(node.op_type) for node in nodes(onnx.load(path)))

    @pytest.mark.parametrize("form", list(QuantFormat))
    def test_signed_activations_with_unsigned_weights(self, cnn: Path, tmp_path: Path, form: QuantFormat) -> None:
        with quiet(), pytest.raises(ValueError, match=r"activation_type=QuantType\.QInt8, weight_type=QuantType\.QUInt8"):
            quantize_static(
                cnn,
                tmp_path / "o.onnx",
                Reader([{"x": images(1)}]),
                quant_format=form,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QUInt8,
            )
        recipe = Recipe(name="r", method="static", format=form.name, activation="QInt8", weight="QUInt8")
        assert "QInt8 with weights QUInt8" in (impossible(recipe) or "")

    def test_dynamic_without_an_integer_operator(self, cnn: Path, tmp_path: Path) -> None:
        assert {*IntegerOpsRegistry, "Gemm"} == DYNAMIC_OPS
        with quiet():
            quantize_dynamic(cnn, tmp_path / "o.onnx", op_types_to_quantize=["Relu", "Add"])
        assert self.quantized_nodes(tmp_path / "o.onnx") == 0
        recipe = Recipe(name="r", method="dynamic", weight="QInt8", op_types=("Relu", "Add"))
        assert "IntegerOpsRegistry" in (impossible(recipe) or "")
        assert impossible(recipe.model_copy(update={"op_types": ("Relu", "Conv")})) is None

    def test_qoperator_without_a_quantized_operator(self, cnn: Path, tmp_path: Path) -> None:
        assert set(QLinearOpsRegistry) == QOPERATOR_OPS
        kinds = ["Slice", "ReduceMean"]
        found = {}
        for form in QuantFormat:
            model = onnx.load(cnn)
            model.graph.node[4].CopyFrom(onnx.helper.make_node("ReduceMean", ["a"], ["p"], "pool", axes=[2, 3]))
            onnx.save(model, tmp_path / "m.onnx")
            with quiet():
                reader = Reader([{"x": images(1)}])
                quantize_static(tmp_path / "m.onnx", tmp_path / "o.onnx", reader, quant_format=form, op_types_to_quantize=kinds)
            found[form.name] = self.quantized_nodes(tmp_path / "o.onnx")
        assert found["QOperator"] == 0
        assert found["QDQ"] > 0
        recipe = Recipe(name="r", method="static", format="QOperator", activation="QUInt8", weight="QInt8", op_types=tuple(kinds))
        assert impossible(recipe)
        assert impossible(recipe.model_copy(update={"format": "QDQ"})) is None

    def test_every_rule_names_its_source(self) -> None:
        assert all(rule.source in str(rule) and rule.reason for rule in RULES)
        assert impossible(REFERENCE) is None
