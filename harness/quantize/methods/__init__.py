"""How variants are made: one module for each method, and what they share."""
