from __future__ import annotations

from pathlib import Path

import pytest

from harness.report import formats
from tests.report.conftest import Summary


@pytest.mark.parametrize("name", formats.FORMATS)
@pytest.mark.parametrize("which", ["hostile", "simple", "emulated"])
def test_every_format_renders_every_run_twice_alike(name: str, which: str, request: pytest.FixtureRequest) -> None:
    summary = request.getfixturevalue(which)
    data = formats.render(name, *summary)
    assert data
    assert data.decode()
    assert formats.render(name, *summary) == data


@pytest.mark.parametrize("name", formats.FORMATS)
def test_a_run_that_has_only_begun_can_be_rendered(name: str, simple: Summary) -> None:
    from harness.judge.rows import tables

    begun = simple.run.model_copy(update={"results": (), "state": "running"})
    assert formats.render(name, begun, tables(begun, {})) is not None


def test_the_files_of_a_run(hostile: Summary) -> None:
    folder = Path("run")
    found = formats.files(folder, *hostile)
    names = {path.relative_to(folder).as_posix() for path in found}
    assert names == {
        "table.md", "table.csv", "junit.xml", "benchmark.json", "report/index.html", "report/report.css", "report/rpi4.svg",
    }  # fmt: skip
    assert all(found.values())
