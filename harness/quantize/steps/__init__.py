"""Preparation steps: what the harness does to a model to keep onnxruntime's tools from breaking it. One module for each step or family."""
