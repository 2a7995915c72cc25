"""The tables of docs/planner.md, printed from the rules: ``python -m tests.quantize.rules_page`` writes them anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.quantize.method import named
from harness.quantize.planning.caveats import CAVEATS
from harness.quantize.planning.constraints import RULES
from harness.quantize.planning.equivalence import EQUIVALENCES
from harness.quantize.planning.platforms import PLATFORM_RULES
from harness.study.specs import methods
from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

METHODS = [named(name) for name in methods()]
PAGE = ROOT / "docs" / "planner.md"
BEGIN = "<!-- from the rules; `python -m tests.quantize.rules_page` writes what follows anew -->\n"


def page() -> str:
    """The page as it should be: its text, and the rules as they are."""
    text = PAGE.read_text(encoding="utf-8")
    return text[: text.index(BEGIN)] + BEGIN + tables()


def tables() -> str:
    """The rules as Markdown."""
    parts: list[tuple[str, Sequence[str], list[tuple[str, ...]]]] = [
        (
            "What can't exist",
            ("rule", "why", "source"),
            [(r.key, r.message(), r.source) for r in (*RULES, *(r for each in METHODS for r in each.constraints))],
        ),
        (
            "Files that differ from their recipe",
            ("rule", "what happens", "source"),
            [(r.key, r.message(), r.source) for r in (*CAVEATS, *(r for each in METHODS for r in each.caveats))],
        ),
        ("What is the same file", ("rule", "why", "source"), [(r.key, r.reason, r.source) for r in EQUIVALENCES]),
        (
            "How platforms run it",
            ("rule", "effect", "what happens", "source", "seen"),
            [
                (
                    r.key,
                    r.effect,
                    "; ".join(filter(None, [r.reason, r.advice])),
                    r.source,
                    r.seen or "by a test, on the library here",
                )
                for r in (*PLATFORM_RULES, *(r for each in METHODS for r in each.platform_rules))
            ],
        ),
    ]
    return "\n".join(f"\n## {title}\n\n{_table(heads, rows)}" for title, heads, rows in parts)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *([f"`{row[0]}`", *row[1:]] for row in rows)]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
