"""Ranges of activations, found once for all variants."""
