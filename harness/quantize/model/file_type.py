"""Says what a file is that was given for an ONNX model, by its first bytes."""

from __future__ import annotations

import string

PREFIXES: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs.github.com", "a Git LFS pointer, not the file itself: run 'git lfs pull'"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89PNG\r\n", "a PNG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive, as PyTorch's .pt and numpy's .npz are"),
    (b"\x93NUMPY", "a numpy array"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"\x89HDF\r\n", "an HDF5 file, as Keras writes: export it to ONNX first"),
    (b"\x7fELF", "a program"),
    (b"\x80\x02", "a Python pickle, as older PyTorch writes: export it to ONNX first"),
)
# At offset 4, where FlatBuffers keep their mark.
MARKS: tuple[tuple[bytes, str], ...] = (
    (b"TFL3", "a TensorFlow Lite model"),
    (b"ORTM", "a model in onnxruntime's .ort format: give the .onnx file that it was made from"),
)
SAMPLE = 512
PRINTABLE = frozenset(string.printable.encode())


def looks_like(data: bytes) -> str | None:
    """Name what a file's bytes look like.

    Returns:
        A phrase such as ``a JPEG image``, or None when they could be an ONNX model.
    """
    if not data:
        return "an empty file"
    found = next((what for prefix, what in PREFIXES if data.startswith(prefix)), None)
    found = found or next((what for mark, what in MARKS if data[4:8] == mark), None)
    if found is None and data[8:9] == b"{" and int.from_bytes(data[:8], "little") < len(data):
        found = "a safetensors file: it holds weights without a graph"
    if found is None and PRINTABLE.issuperset(data[:SAMPLE]):
        found = "text"
    return found
