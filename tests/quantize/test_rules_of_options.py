"""Rules of blockwise weights and of extra options, shown on onnxruntime."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.neural_compressor import util

from harness.quantize.calibration.reader import CopiedReader
from harness.quantize.model.graph import is_quantized
from harness.quantize.planning import constraints
from harness.quantize.planning.constraints import impossible
from harness.quantize.quiet import quiet
from harness.quantize.recipe import Recipe, spelled
from tests.models import images

if TYPE_CHECKING:
    from pathlib import Path


# As harness/quantize/methods/nbits.py does it: the tool's import would set up the root logger.
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
        assert "can't store an accuracy level" in (impossible(changed(NBITS, format="QDQ", accuracy_level=4)) or "")

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
        monkeypatch.setattr(constraints, "find_spec", lambda name: None if name == "torch" else name)
        monkeypatch.setitem(sys.modules, "torch", None)
        with pytest.raises(ImportError, match="torch"):
            self.quantized(mlp, tool.HQQWeightOnlyQuantConfig(block_size=32))
        assert "pip install torch" in (impossible(changed(NBITS, algorithm="HQQ")) or "")
        monkeypatch.setattr(constraints, "find_spec", lambda name: name)
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
        return impossible(changed(self.STATIC, format=form, skip_steps=("keep-clamps",), extra_options=spelled(options)))

    @pytest.mark.parametrize("form", ["QDQ", "QOperator"])
    def test_symmetric_ranges_without_symmetric_activations(self, cnn: Path, tmp_path: Path, form: str) -> None:
        bad: dict[str, Any] = {"CalibTensorRangeSymmetric": True}
        assert self.made(cnn, tmp_path, form) > 20
        assert self.made(cnn, tmp_path, form, **bad) < 10
        assert "symmetric ranges with asymmetric activations" in (self.refusal(form, **bad) or "")
        symmetric = changed(
            self.STATIC, format=form, skip_steps=("keep-clamps",), calibration_options=spelled({"symmetric": True})
        )
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
        assert "discards samples" in (self.refusal("QDQ", CalibMaxIntermediateOutputs=2) or "")

    def test_smooth_quant_without_its_package(self, cnn: Path, tmp_path: Path) -> None:
        with quiet(), pytest.raises(RuntimeError, match="neural-compressor is not correctly installed"):
            self.made(cnn, tmp_path, "QDQ", SmoothQuant=True)
        assert "neural_compressor.adaptor.ox_utils.smooth_quant, which is not installed" in (
            self.refusal("QDQ", SmoothQuant=True) or ""
        )
        assert self.refusal("QDQ", SmoothQuant=False) is None
