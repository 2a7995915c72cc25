"""Judge a run: what its numbers support."""
