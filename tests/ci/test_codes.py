"""The exit codes of the pipelines: each one of the enum has a case of its own, and means what ci/README.md says."""

from __future__ import annotations

import re
import subprocess

import pytest

from harness.errors import Exit
from tests.conftest import ROOT

JENKINSFILE = (ROOT / "ci" / "Jenkinsfile").read_text()
WORKFLOW = (ROOT / "ci" / "github-actions.yml").read_text()
README = (ROOT / "ci" / "README.md").read_text()
# Of the stage: the gate did not begin; the tool crashed.
CODES = {int(each) for each in Exit} | {69, 70}


def table() -> dict[int, tuple[str, str]]:
    """What ci/README.md says of each code: the build in Jenkins, and the job in GitHub Actions."""
    rows = re.findall(r"^\| (\d+) \| [^|]+ \| (\w+) \| (\w+) \|$", README, re.MULTILINE)
    return {int(code): (jenkins, github) for code, jenkins, github in rows}


def jenkins() -> dict[int, str]:
    """What the Jenkinsfile does for each code; a case without an end falls through, which none may."""
    (switch,) = re.findall(r"switch \(code\) \{(.*?)default:", JENKINSFILE, re.DOTALL)
    found = {}
    for code, body in re.findall(r"case (\d+):(.*?)(?=case \d|\Z)", switch, re.DOTALL):
        lines = [line.strip() for line in body.strip().splitlines()]
        call = lines[0].partition("(")[0]
        assert lines[-1] == "break" or call == "error", f"case {code} falls through"
        assert len(lines) <= 2, f"case {code}"
        found[int(code)] = {"break": "SUCCESS", "unstable": "UNSTABLE", "error": "FAILURE"}[call]
    return found


def github() -> dict[int, str]:
    """What the workflow's own shell does for each code."""
    (switch,) = re.findall(r"^ *case \$code in\n.*?^ *esac$", WORKFLOW, re.DOTALL | re.MULTILINE)
    found = {}
    for code in re.findall(r"^ *(\d+)\)", switch, re.MULTILINE):
        done = subprocess.run(["bash", "-c", f"code={code}\n{switch}"], capture_output=True, text=True, check=False)
        # A red job ends with the gate's own code.
        assert done.returncode in {0, int(code)}
        found[int(code)] = "red" if done.returncode else "warning" if done.stdout.startswith("::warning::") else "green"
    return found


def test_each_exit_code_means_the_same_everywhere() -> None:
    assert set(table()) == CODES
    assert jenkins() == {code: says for code, (says, _) in table().items()}
    assert github() == {code: says for code, (_, says) in table().items()}


def test_only_a_regression_and_wrong_use_fail_a_build_and_only_a_pass_is_green() -> None:
    assert {code for code, (says, _) in table().items() if says == "FAILURE"} == {Exit.REGRESSED, Exit.USAGE}
    for column in (0, 1):
        assert [code for code, says in table().items() if says[column] in {"SUCCESS", "green"}] == [Exit.PASSED]


def test_the_stage_script_passes_on_all_of_these_and_no_other_code() -> None:
    script = (ROOT / "ci" / "stage.sh").read_text()
    passed = re.findall(r"^        ([\d |]+)\)", script, re.MULTILINE)
    assert {int(code) for alternatives in passed for code in alternatives.split("|")} - {126, 127} == CODES


@pytest.mark.parametrize("code", ["5", "137", "255"])
def test_an_unknown_code_fails_a_workflow(code: str) -> None:
    (switch,) = re.findall(r"^ *case \$code in\n.*?^ *esac$", WORKFLOW, re.DOTALL | re.MULTILINE)
    assert subprocess.run(["bash", "-c", f"code={code}\n{switch}"], capture_output=True, check=False).returncode == int(code)


def test_the_jenkinsfile_s_braces_close() -> None:
    code = re.sub(r"'''.*?'''|'[^'\n]*'|\"[^\"\n]*\"|//[^\n]*", "", JENKINSFILE, flags=re.DOTALL)
    for opening, closing in ("{}", "()", "[]"):
        assert code.count(opening) == code.count(closing)


def test_the_stage_script_says_how_it_is_used() -> None:
    done = subprocess.run(["sh", ROOT / "ci" / "stage.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "ci/stage.sh check STUDY BASELINE" in done.stderr
