"""Quant Harness: measures quantized ONNX models on real devices."""

import os

# onnxruntime >= 1.29 sends telemetry when it is imported, unless this is set before.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
