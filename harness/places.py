"""Where things are: the files that come with the harness but are no modules of it, and what it keeps for the user."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
# A wheel carries them inside the package; a checkout has them beside it.
_ROOT = _PACKAGE / "_shipped" if (_PACKAGE / "_shipped").is_dir() else _PACKAGE.parent

AGENT = _ROOT / "runners" / "agent"
JOB = _ROOT / "runners" / "job"
RUNNER = _ROOT / "runners" / "ort_runner.py"
CHECKS = _ROOT / "runners" / "ort_checks.py"
PROBER = _ROOT / "runners" / "prober.py"
DIGITS = _ROOT / "studies" / "digits"


def cache() -> Path:
    """The user's cache on this machine; the same folder as the store of ``local`` (runners/PROTOCOL.md)."""
    return Path(os.environ.get("QUANT_HARNESS_HOME") or Path.home() / ".cache" / "quant-harness")


def variants() -> Path:
    """Variants that were made before; the folder can be deleted at any time."""
    return cache() / "variants"


def programs() -> Path:
    """Programs of several modules, each put into one file to be pushed; the folder can be deleted at any time."""
    return cache() / "programs"


def models() -> Path:
    """Models of saved baselines, by hash."""
    return cache() / "models"
