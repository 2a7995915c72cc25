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
    """Break the paragraphs and list items of a page into lines; tables, headings and code stay as they are."""
    return "\n\n".join(map(_wrapped_part, page.split("\n\n")))


def _wrapped_part(part: str) -> str:
    if re.match(r"[A-Z*`][^|\n]*", part):
        return textwrap.fill(part.rstrip("\n"), WIDTH, break_on_hyphens=False, break_long_words=False)
    if all(line.startswith("- ") for line in part.splitlines()):
        return "\n".join(
            textwrap.fill(line, WIDTH, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)
            for line in part.splitlines()
        )
    return part
