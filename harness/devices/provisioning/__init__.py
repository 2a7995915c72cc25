"""The runtime that a device needs: which wheels fit it, and how they get there."""
