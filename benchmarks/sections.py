"""What scripts that write pages share: sections that each replaces for itself, and lines of prose that are not too long."""

from __future__ import annotations

import re
import textwrap

WIDTH = 120  # characters of a line of prose


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


def wrapped(page: str) -> str:
    """Break the paragraphs of a page into lines; tables, headings, lists and code stay as they are."""
    parts = page.split("\n\n")
    prose = re.compile(r"[A-Z*`][^|\n]*")
    return "\n\n".join(
        textwrap.fill(part.rstrip("\n"), WIDTH, break_on_hyphens=False) if prose.match(part) else part for part in parts
    )
