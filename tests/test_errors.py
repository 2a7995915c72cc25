"""The exit codes are told in one place and are the same everywhere."""

from __future__ import annotations

import re

import pytest
import typer.main

from harness.cli.app import app
from harness.errors import Exit
from tests.cli.test_environments import COMMANDS
from tests.conftest import ROOT


def test_the_page_lists_every_code_by_its_name() -> None:
    page = (ROOT / "docs" / "exit-codes.md").read_text()
    assert {int(code): name for code, name in re.findall(r"^\| (\d+) \| ([A-Z]+) \|", page, re.MULTILINE)} == {
        int(each): each.name for each in Exit
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_s_help_tells_codes_that_there_are(name: str) -> None:
    command = typer.main.get_command(app)
    for word in name.split():
        command = command.commands[word]  # type: ignore[attr-defined]
    said = " ".join((command.help or "").split())
    (codes,) = re.findall(r"Exit codes?: (.*)", said)
    found = {int(code) for code in re.findall(r"(?:^|, |; )(\d+) ", codes)}
    assert 0 in found
    assert found <= set(map(int, Exit))
    assert (1 in found) == (name in {"check", "claims"})
