"""A model, opened on this machine to check what it computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnxruntime as ort

from harness.quantize.quiet import FATAL, quiet

if TYPE_CHECKING:
    from pathlib import Path


def open_session(model: Path | bytes, folder: Path | None = None) -> ort.InferenceSession:
    """Open a session of onnxruntime's CPU provider that prints nothing.

    Args:
        model: the file, or its content.
        folder: of a serialized model, where the files with its tensors are.

    Raises:
        Exception: of onnxruntime, if it does not load the model.
    """
    options = ort.SessionOptions()
    options.log_severity_level = FATAL
    # Threads that spin for the next call would take the cores from other sessions.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    with quiet():
        return ort.InferenceSession(
            model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
        )
