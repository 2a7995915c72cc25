from __future__ import annotations

from pathlib import Path

import pytest

from harness.judge.judgement import Judgement, judge
from harness.report import formats


@pytest.mark.parametrize("name", formats.FORMATS)
@pytest.mark.parametrize("which", ["hostile", "simple", "emulated"])
def test_every_format_renders_every_run_twice_alike(name: str, which: str, request: pytest.FixtureRequest) -> None:
    summary = request.getfixturevalue(which)
    data = formats.render(name, summary)
    assert data
    assert data.decode()
    assert formats.render(name, summary) == data


@pytest.mark.parametrize("name", formats.FORMATS)
def test_a_run_that_has_only_begun_can_be_rendered(name: str, simple: Judgement) -> None:
    begun = simple.run.model_copy(update={"results": (), "state": "running"})
    data = formats.render(name, judge(begun, {}))
    assert data
    assert data != formats.render(name, simple)


def test_the_files_of_a_run(hostile: Judgement) -> None:
    folder = Path("run")
    found = formats.files(folder, hostile)
    names = {path.relative_to(folder).as_posix() for path in found}
    assert names >= {
        "table.md", "table.csv", "junit.xml", "benchmark.json", "report/index.html", "report/report.css", "report/rpi4.svg",
    }  # fmt: skip
    assert all(found.values())


TOY = """
def render(judgement):
    lines = [f"{judgement.run.id}: {judgement.outcome}"]
    lines += [f"{row.case} on {row.device}: {row.state}" for table in judgement.tables for row in table.rows]
    return "\\n".join(lines).encode()
"""


def test_a_format_is_one_file_and_one_registration(simple: Judgement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy_format.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(formats.FORMATS, "toy", formats.Format("toy_format", "toy.txt"))
    said = b"2026-11-20T10-15-00Z-ab12: complete\nfp32 on rpi4: measured\nstatic-QDQ on rpi4: measured"
    assert formats.render("toy", simple) == said
    assert formats.files(tmp_path, simple)[tmp_path / "toy.txt"] == said
