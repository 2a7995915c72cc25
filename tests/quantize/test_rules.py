from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.neural_compressor import util
from onnxruntime.quantization.registry import IntegerOpsRegistry, QLinearOpsRegistry

from harness.quantize import rules
from harness.quantize.graph import is_quantized, nodes
from harness.quantize.matrix import REFERENCE
from harness.quantize.quiet import quiet
from harness.quantize.reader import CopiedReader
from harness.quantize.recipe import Recipe, spelled
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
                CopiedReader([{"x": images(1)}]),
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
                reader = CopiedReader([{"x": images(1)}])
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


# As harness/quantize/nbits.py does it: the tool's import would set up the root logger.
with quiet():
    from onnxruntime.quantization import matmul_nbits_quantizer as tool

NBITS = Recipe(name="r", method="nbits", format="QOperator", bits=4, block_size=32, accuracy_level=0, algorithm="DEFAULT")


def changed(recipe: Recipe, **fields: Any) -> Recipe:
    return recipe.model_copy(update=fields)


class TestRulesOfBlockwiseWeights:
    """As above, of MatMulNBits."""

    def quantized(self, mlp: Path, algo: Any = None, **options: Any) -> list[tuple[str, dict[str, Any]]]:
        model = onnx.load(mlp)
        with quiet():
            quantizer = tool.MatMulNBitsQuantizer(model, block_size=options.pop("block_size", 32), algo_config=algo, **options)
            if algo is not None and "bits" in options:
                algo.customized_weight_config = {"matmul": {"bits": options["bits"]}}
            quantizer.process()
        found = [node for node in quantizer.model.model.graph.node if is_quantized(node.op_type)]
        return [(node.op_type, {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}) for node in found]

    def test_qdq_holds_four_bits(self, mlp: Path) -> None:
        qdq = {"quant_format": QuantFormat.QDQ}
        assert self.quantized(mlp, bits=4, **qdq)
        assert self.quantized(mlp, bits=8, **qdq) == []
        with pytest.raises(AssertionError, match="only support 4 bits"):
            self.quantized(mlp, bits=2, **qdq)
        assert [impossible(changed(NBITS, format="QDQ", bits=bits)) is None for bits in (2, 4, 8)] == [False, True, False]

    def test_qdq_has_one_algorithm_and_no_accuracy_level(self, mlp: Path) -> None:
        with pytest.raises(AssertionError, match="only supports QOperator"):
            tool.RTNWeightOnlyQuantConfig(quant_format=QuantFormat.QDQ)
        ((_, attributes),) = self.quantized(mlp, bits=4, quant_format=QuantFormat.QDQ, accuracy_level=4)
        assert set(attributes) == {"axis", "block_size"}
        assert "only the algorithm DEFAULT writes QDQ" in (impossible(changed(NBITS, format="QDQ", algorithm="RTN")) or "")
        assert "no place for an accuracy level" in (impossible(changed(NBITS, format="QDQ", accuracy_level=4)) or "")

    @pytest.mark.parametrize("size", [20, 512])
    def test_sizes_of_blocks(self, mlp: Path, size: int) -> None:
        with pytest.raises(RuntimeError, match="MlasQuantizeBlockwise"):
            self.quantized(mlp, block_size=size)
        assert "MatMulNBits has blocks of 16, 32" in (impossible(changed(NBITS, block_size=size)) or "")
        assert impossible(changed(NBITS, block_size=size, format="QDQ")) is None

    def test_bits_of_algorithms(self, mlp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(util, "to_numpy", np.asarray)
        # What is left is a MatMul whose weights are rounded, in float.
        assert self.quantized(mlp, tool.RTNWeightOnlyQuantConfig(), bits=8)
        assert self.quantized(mlp, tool.RTNWeightOnlyQuantConfig(), bits=2, block_size=16) == []
        data = CopiedReader([{"x": np.ones((1, 16), np.float32)}])
        assert self.quantized(mlp, tool.GPTQWeightOnlyQuantConfig(data), bits=8) == []
        found = {
            (name, bits): impossible(changed(NBITS, algorithm=name, bits=bits)) is None
            for name in ("DEFAULT", "RTN", "k_quant", "GPTQ")
            for bits in (2, 4, 8)
        }
        assert {key for key, possible in found.items() if not possible} == {("RTN", 2), ("k_quant", 2), ("GPTQ", 2), ("GPTQ", 8)}

    def test_hqq(self, mlp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rules, "find_spec", lambda name: None if name == "torch" else name)
        monkeypatch.setitem(sys.modules, "torch", None)
        with pytest.raises(ImportError, match="torch"):
            self.quantized(mlp, tool.HQQWeightOnlyQuantConfig(block_size=32))
        assert "pip install torch" in (impossible(changed(NBITS, algorithm="HQQ")) or "")
        monkeypatch.setattr(rules, "find_spec", lambda name: name)
        assert impossible(changed(NBITS, algorithm="HQQ")) is None
        assert not hasattr(tool.HQQWeightOnlyQuantConfig(), "accuracy_level")
        assert "no accuracy level" in (impossible(changed(NBITS, algorithm="HQQ", accuracy_level=4)) or "")


class TestOptionsThatDestroy:
    """As above, of the extra options that are refused."""

    STATIC = Recipe(name="r", method="static", format="QDQ", activation="QUInt8", weight="QInt8", calibration="MinMax")

    def made(self, cnn: Path, tmp_path: Path, form: str, method: str = "MinMax", **options: Any) -> float:
        """The SQNR of a quantized model, in dB."""
        feeds = [{"x": images(1, seed=n)} for n in range(4)]
        with quiet():
            quantize_static(
                cnn,
                tmp_path / "o.onnx",
                CopiedReader(feeds),
                quant_format=QuantFormat[form],
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod[method],
                extra_options=options,
            )
        ref, x = (
            np.asarray(onnxruntime.InferenceSession(path).run(None, {"x": images(4)})[0]) for path in (cnn, tmp_path / "o.onnx")
        )
        return float(20 * np.log10(np.linalg.norm(ref) / np.linalg.norm(ref - x)))

    def refusal(self, form: str, **options: Any) -> str | None:
        return impossible(changed(self.STATIC, format=form, extra_options=spelled(options)))

    @pytest.mark.parametrize("form", ["QDQ", "QOperator"])
    def test_symmetric_ranges_without_symmetric_activations(self, cnn: Path, tmp_path: Path, form: str) -> None:
        bad: dict[str, Any] = {"CalibTensorRangeSymmetric": True}
        assert self.made(cnn, tmp_path, form) > 20
        assert self.made(cnn, tmp_path, form, **bad) < 10
        assert "symmetric ranges with asymmetric activations" in (self.refusal(form, **bad) or "")
        symmetric = changed(self.STATIC, format=form, calibration_options=spelled({"symmetric": True}))
        assert "symmetric ranges with asymmetric activations" in (impossible(symmetric) or "")
        for mend in ("ActivationSymmetric", "QDQKeepRemovableActivations"):
            mends = form == "QDQ" or mend == "ActivationSymmetric"
            assert (self.made(cnn, tmp_path, form, **{**bad, mend: True}) > 20) is mends
            assert (self.refusal(form, **{**bad, mend: True}) is None) is mends
        # The others keep a range within the values that were seen.
        assert self.made(cnn, tmp_path, form, "Percentile", **bad) > 20
        assert impossible(changed(symmetric, calibration="Percentile")) is None

    def test_samples_that_are_thrown_away(self, cnn: Path, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="No data is collected"):
            self.made(cnn, tmp_path, "QDQ", CalibMaxIntermediateOutputs=2)
        assert "throws samples away" in (self.refusal("QDQ", CalibMaxIntermediateOutputs=2) or "")

    def test_smooth_quant_without_its_package(self, cnn: Path, tmp_path: Path) -> None:
        with quiet(), pytest.raises(RuntimeError, match="neural-compressor is not correctly installed"):
            self.made(cnn, tmp_path, "QDQ", SmoothQuant=True)
        assert "neural_compressor.adaptor.ox_utils.smooth_quant, which is not installed" in (
            self.refusal("QDQ", SmoothQuant=True) or ""
        )
        assert self.refusal("QDQ", SmoothQuant=False) is None
