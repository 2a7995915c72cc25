"""Structures that real models consist of, one module for each family."""
