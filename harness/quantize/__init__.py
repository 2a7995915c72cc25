"""Recipes and what they make of a model."""
