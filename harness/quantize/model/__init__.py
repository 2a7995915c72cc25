"""ONNX models: opened, prepared, stored, read back."""
