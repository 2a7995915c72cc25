"""Installs the runtime that a device needs: finds the wheels that fit, and uploads them."""
