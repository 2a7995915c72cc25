"""What the numbers support."""
