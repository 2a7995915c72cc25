"""Sections of a page that several scripts write: each replaces its own, and leaves the others as they are."""

from __future__ import annotations

import re


def section(page: str, heading: str) -> str:
    """Give a section of the second level with its heading; empty if the page has none."""
    found = re.search(rf"^## {re.escape(heading)}\n.*?(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    return found[0].rstrip() + "\n" if found else ""


def replaced(page: str, heading: str, body: str) -> str:
    """Put a section in the place of the old one, or at the end of the page."""
    text = f"## {heading}\n\n{body.strip()}\n"
    old = section(page, heading)
    if old:
        before, _, after = page.partition(old)
        return f"{before}{text}{after}"
    return f"{page.rstrip()}\n\n{text}"
