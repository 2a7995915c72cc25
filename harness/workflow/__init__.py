"""The commands as small steps: check the inputs, run, resume, check against a baseline."""
