"""Calibration and evaluation data: where they come from, whether they fit, and what is odd about them."""
