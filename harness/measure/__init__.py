"""Measure: cases, rounds, the campaign and its journal."""
