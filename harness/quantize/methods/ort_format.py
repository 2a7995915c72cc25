"""onnxruntime's own file format: any variant, optimized and written for one platform.

Its optimizations are done once, when it is written, so a file suits the platform that it was written for: on x86 QDQ of signed
activations is rewritten to unsigned, which ARM runs three times slower, and the other way round.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from harness.quantize.model import storage
from harness.quantize.quiet import quiet
from harness.quantize.reasons import RecipeError, reason_of

if TYPE_CHECKING:
    from harness.study.keys import FileFormat

# Its import would set up the root logger, and put the INFO of every library on the user's terminal.
with quiet():
    from onnxruntime.tools.convert_onnx_models_to_ort import OptimizationStyle, convert_onnx_models_to_ort

WHY = "it holds weights as the platform's kernels take them"
GROWN, TABLES = 1.1, 2**17  # times as large, and bytes: more than what the format itself takes
# The tool's names of the platforms.
TARGETS = {"ort-amd64": "amd64", "ort-arm": "arm"}


def finish(path: Path, file_format: FileFormat) -> tuple[str, ...]:
    """Rewrite a variant's file, in place, in the format that its recipe asks for; ``onnx`` stays as it is.

    Optimizations are those of all levels and of style Fixed, as the tool's guide has it for the CPU provider: style Runtime
    keeps some for later, and a session has to be told to trust them.

    Returns:
        A note if the file has become larger.

    Raises:
        RecipeError: if onnxruntime here can't load the model, or it is too large.
    """
    if file_format not in TARGETS:
        return ()
    if storage.data_of(path):
        message = "it can't be written in onnxruntime's format: a model of more than 2 GB does not fit into its one file"
        raise RecipeError(message)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        given = Path(folder, "model.onnx")
        path.rename(given)
        try:
            with quiet():
                convert_onnx_models_to_ort(
                    given, optimization_styles=[OptimizationStyle.Fixed], target_platform=TARGETS[file_format]
                )
            before = given.stat().st_size
            given.with_suffix(".ort").replace(path)
        except Exception as exc:
            message = f"it can't be written in onnxruntime's format: {reason_of(exc, [Path(folder)])}"
            raise RecipeError(message) from exc
    after = path.stat().st_size
    if after <= max(GROWN * before, before + TABLES):
        return ()
    # fp16 is computed in float32 where there are no kernels for it, and weights in the layout of kernels or twice.
    return (f"as .ort it has {after / before:.1f} times the bytes of its .onnx: {WHY}",)
