from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from harness.judge.judgement import Judgement
from harness.report import columns, html
from tests.report import runs

VOID = {"meta", "link", "img", "br"}
# All that the page may be made of: Jenkins' policy lets nothing else work, or it could carry a script or a style.
TAGS = VOID | {
    "html", "head", "title", "body", "header", "main", "section", "h1", "h2", "p", "ul", "li", "a", "span", "code", "details", "summary",
    "dl", "dt", "dd", "div", "table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption",
}  # fmt: skip
ATTRIBUTES = {"lang", "charset", "name", "content", "rel", "href", "class", "id", "title", "scope", "src", "alt"}


class Page(HTMLParser):
    """A page's tags, attributes and words; a tag that is closed wrongly is an error."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(data.decode())
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.words.append((self._open[-1] if self._open else "", data))

    def values(self, tag: str, attribute: str) -> list[str | None]:
        return [attributes[attribute] for name, attributes in self.tags if name == tag and attribute in attributes]

    def inside(self, tag: str) -> list[str]:
        return [words for name, words in self.words if name == tag]


@pytest.mark.parametrize("which", ["hostile", "simple", "emulated"])
def test_jenkins_lets_everything_on_the_page_work(which: str, request: pytest.FixtureRequest) -> None:
    page = Page(html.render(request.getfixturevalue(which)))
    assert {tag for tag, _ in page.tags} <= TAGS
    assert {name for _, attributes in page.tags for name in attributes} <= ATTRIBUTES
    assert page.values("link", "href") == ["report.css"]
    targets = {f"#{identifier}" for identifier in page.values("section", "id")}
    assert set(page.values("a", "href")) <= targets


def test_what_the_page_refers_to_lies_beside_it(hostile: Judgement) -> None:
    page, files = Page(html.render(hostile)), html.beside(hostile)
    assert {*page.values("img", "src"), *page.values("link", "href")} == set(files) == {"report.css", "rpi4.svg"}


def test_the_style_sheet_loads_nothing_and_knows_light_and_dark(simple: Judgement) -> None:
    style = html.beside(simple)["report.css"].decode()
    assert not re.search(r"url\(|@import|@font-face|expression", style)
    assert "prefers-color-scheme: dark" in style
    assert "overflow-x: auto" in style
    used = set(re.findall(r'class="([^"]+)"', html.render(simple).decode()))
    assert "scroll" in used


def test_hostile_words_are_shown_and_do_nothing(hostile: Judgement) -> None:
    page = Page(html.render(hostile))
    shown = [words for _, words in page.words if "<script>alert(1)</script>" in words]
    assert len(shown) > 10
    assert not any(control in words for control in "\x07\x1b" for _, words in page.words)
    assert any("]]>" in words and "&amp;" in words for words in shown)


def test_the_heading_says_study_run_state_and_warnings(hostile: Judgement) -> None:
    page = Page(html.render(hostile))
    assert page.inside("h1") == ["digits"]
    assert hostile.run.id in page.inside("code")
    assert "incomplete" in page.inside("span")
    assert page.inside("title") == [f"digits · {hostile.run.id}"]
    assert any("alert(1)" in words for words in page.inside("li"))


def test_each_device_has_its_section_table_and_trouble(hostile: Judgement) -> None:
    page = Page(html.render(hostile))
    assert page.values("section", "id") == ["overview", "device-rpi4", "device-n1.lab"]
    assert page.inside("h2")[1].startswith("rpi4 · Cortex")
    assert [words for words in page.inside("p") if words.startswith("✗ connect:")]
    titles = [column.title for column in columns.of(hostile.tables[0])]
    assert page.inside("th")[3 + 6 : 3 + 6 + len(titles)] == titles
    assert page.values("th", "title") == [column.meaning for table in hostile.tables for column in columns.of(table)]
    cells = page.inside("td")
    assert any(words.startswith("2.00× [") for words in cells)
    assert {"failed", "impossible", "unmade", "unmeasured"} <= set(cells)
    classes = page.values("tr", "class")
    assert classes[:6] == ["measured", "measured", "failed", "measured", "impossible", "unmade"]


def test_facts_are_folded_away_and_say_nothing_of_the_way_to_the_device(hostile: Judgement) -> None:
    page = Page(html.render(hostile))
    terms, values = page.inside("dt"), page.inside("dd")
    assert {"processor", "cores", "onnxruntime", "memory"} <= set(terms)
    assert {"4", "1.31.1", "4.0 GB", "0 °C"} <= set(values)
    assert "10.0.0.9" not in html.render(hostile).decode()
    assert len(terms) == len(values)


def test_one_device_needs_no_overview(simple: Judgement) -> None:
    assert Page(html.render(simple)).values("section", "id") == ["device-rpi4"]


def test_an_emulated_device_is_marked_and_has_no_chart(emulated: Judgement) -> None:
    page = Page(html.render(emulated))
    assert "emulated" in page.inside("span")
    assert page.values("img", "src") == []
    assert set(html.beside(emulated)) == {"report.css"}


def test_a_device_that_measured_nothing_has_no_table() -> None:
    judgement = runs.simple()
    from dataclasses import replace

    page = Page(html.render(judgement.with_tables([replace(judgement.tables[0], rows=())])))
    assert "table" not in {tag for tag, _ in page.tags}
