"""Puts finished runs of these studies together: their tables under results/published/, and every claim's verdict on every device in one table.

python studies/published_claims/publish.py results/published RUN_FOLDER...
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.judge import claims
from harness.report import claims as words
from harness.report import formats, markdown
from harness.study import study
from harness.workflow import run as workflow

if TYPE_CHECKING:
    from harness.judge.claims import ClaimVerdict
    from harness.records.run import Run

HERE = Path(__file__).resolve().parent
# Studies in the order of the table.
ORDER = ("resnet", "mobilenet", "digits", "speaker", "transformer", "lstm", "old")


def place(run: Run) -> str:
    """What a column is called: the device, or the kind of emulated core."""
    device = run.devices[0]
    cores = [tag for tag in device.entry.tags if tag.startswith("cortex-") or tag == "max"]
    return f"{cores[0] if cores else device.entry.name} (emulated)" if device.emulated else "x86"


def publish(run: Run, folder: Path, root: Path) -> Run:
    """Write a run's tables, judged by the study as it stands today."""
    name = run.study.name.removeprefix("claims-")
    today = study.load(HERE / f"{name}.toml")
    run = run.model_copy(update={"study": run.study.model_copy(update={"claim": today.claim})})
    _, _, tables = workflow.show(str(folder), root)
    to = root / f"{name}-{run.devices[0].entry.name}"
    to.mkdir(parents=True, exist_ok=True)
    (to / "table.md").write_bytes(formats.render("md", run, tables))
    (to / "table.csv").write_bytes(formats.render("csv", run, tables))
    (to / "claims.json").write_text(json.dumps({"run": run.id, "claims": words.content(run)}, indent=1) + "\n", encoding="utf-8")
    return run


def cell(found: ClaimVerdict) -> str:
    """A claim on a device: the verdict, and what was measured from the least to the most."""
    pairs = [pair for device in found.devices for pair in device.pairs]
    effects = [pair.effect or pair.evidence for pair in pairs]
    known = sorted((each for each in effects if each is not None), key=lambda each: each.value)
    held = sum(pair.verdict == "supported" for pair in pairs)
    judged = sum(pair.verdict != "not judged" for pair in pairs)
    text = f"**{found.verdict}**" if found.verdict != "not judged" else found.verdict
    if judged > 1:
        text += f" ({held} of {judged})"
    if known:
        ends = [words.effect(each).partition(" [")[0] for each in (known[0], known[-1])]
        instead = " instr." if known[0].what == "instructions" else ""
        text += f" {'–'.join(dict.fromkeys(ends))}{instead}"
    return text


def main() -> None:
    """Publish all."""
    root = Path(sys.argv[1])
    runs = []
    for folder in map(Path, sys.argv[2:]):
        _, run, _ = workflow.show(str(folder), root)
        runs.append(publish(run, folder, root))
    places = list(dict.fromkeys(place(run) for run in runs))
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for run in sorted(runs, key=lambda each: ORDER.index(each.study.name.removeprefix("claims-"))):
        for found in claims.judge(run):
            if found.devices:
                rows.setdefault((found.claim.text, run.study.name.removeprefix("claims-")), {})[place(run)] = cell(found)
    ordered = sorted(rows.items(), key=lambda each: (int(each[0][0].partition(".")[0]), each[0][0]))
    lines = [[text, model, *(cells.get(each, "–") for each in places)] for (text, model), cells in ordered]
    header = ["claim", "model", *places]
    # The cells are our own words, with marks of emphasis in them.
    table = [
        f"| {' | '.join(row)} |"
        for row in (header, ["---"] * len(header), *([markdown.text(row[0]), row[1], *row[2:]] for row in lines))
    ]
    (root / "claims.md").write_text("\n".join(table) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
