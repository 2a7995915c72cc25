"""Quant Harness: measures quantized ONNX models on real devices."""

import os

# onnxruntime >= 1.29 sends telemetry when it is imported, unless this is set before.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

DISTRIBUTION = "onnx-quant-harness"
"""The name under which this package is installed. 'quant-harness' on PyPI is somebody else's package."""

__version__: str


def __getattr__(name: str) -> str:
    """Look up ``__version__`` when it is asked for; 'unknown' in a source tree that is not installed.

    Raises:
        AttributeError: for any other name.
    """
    if name != "__version__":
        message = f"module 'harness' has no attribute '{name}'"
        raise AttributeError(message)
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - 'harness --help' needs neither

    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"
