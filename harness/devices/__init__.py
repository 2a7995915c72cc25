"""The registry, the ways to a device, and what is pushed there."""
