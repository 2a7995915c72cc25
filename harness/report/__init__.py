"""Render a judgement: one module for each format."""
