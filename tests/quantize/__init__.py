"""Tests of harness.quantize."""
