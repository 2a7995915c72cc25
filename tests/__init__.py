"""Tests; the folders mirror those of harness/ and runners/."""
