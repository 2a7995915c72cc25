"""Writes docs/recipes.md from finished runs of these studies: every recipe's latency, fidelity and size, model beside model.

python studies/recipes/publish.py docs/recipes.md RUN_FOLDER...
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from harness.report import columns, markdown
from harness.workflow import run as workflow

if TYPE_CHECKING:
    from harness.judge.row import Row
    from harness.judge.table import Table
    from harness.records.run import Run

HEAD = """\
# Every recipe, measured

For engineers who choose a recipe: the latency, fidelity and size of each one, on a convolutional network and on a
transformer.

What each recipe costs and gives on two usual shapes: MobileNetV2 1.0 on 224 x 224 pixels, and an encoder as BERT's, 6
layers of width 384 over 128 tokens. The weights are random: SQNR against fp32 tells how true a recipe is to its model,
not what a trained one would lose. The models and this page are made by

    python studies/recipes/make.py
    harness run studies/recipes/mobilenet.toml
    harness run studies/recipes/transformer.toml
    python studies/recipes/publish.py docs/recipes.md results/recipes-mobilenet/RUN results/recipes-transformer/RUN

`core` stands for `op_types = ["Conv"]` or `["MatMul"]`, `convmul` for Conv and Mul, `ext` for these and AveragePool,
BatchNormalization and ReduceMean, `all` for every operator that the model has, `symmetric` for `ActivationSymmetric =
true`; `pc` is per channel, `rr` reduce_range. A cell is the median latency in ms and the speed-up against fp32 in the
same processes, with its 95 % interval; then SQNR in dB, then the file in MB. The same letter in two cells of a column:
onnxruntime runs the same optimized graph.
"""


def described(run: Run, table: Table) -> str:
    """Where and with what a run was measured."""
    return f"- {run.study.name.removeprefix('recipes-')}: {columns.heading(table)}; run {run.id}, {run.state}"


def cell(row: Row | None) -> str:
    """What was measured of a variant."""
    if row is None:
        return "–"
    if row.state != "measured":
        return "cannot exist" if row.state == "impossible" else f"{row.state}: {row.reason or '?'}"
    speed = f" ({columns.estimate(row.speedup, '×')})" if row.speedup else ""
    latency = f"{row.median.value:.2f}{speed}" if row.median else "not measured"
    fidelity = "identical" if row.fidelity.identical else "–" if row.fidelity.sqnr_db is None else f"{row.fidelity.sqnr_db:.1f}"
    size = "–" if row.size is None else f"{row.size / 1e6:.1f}"
    return f"{latency} / {fidelity} / {size}" + (f" {row.graph}" if row.graph else "")


def reasons(runs: list[tuple[Run, Table]]) -> list[str]:
    """Why some variants are not there, each reason once."""
    found: dict[str, list[str]] = {}
    for _, table in runs:
        for row in table.rows:
            if row.reason and row.state in {"impossible", "failed", "unmade"}:
                found.setdefault(row.reason, []).append(row.variant)
    return [f"- {', '.join(dict.fromkeys(names))}: {reason}" for reason, names in found.items()]


def item(line: str) -> str:
    """A list item as Markdown, in lines of at most 120 characters."""
    return textwrap.fill(markdown.text(line), 120, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)


def main() -> None:
    """Write the page."""
    page, *folders = map(Path, sys.argv[1:])
    runs = []
    for folder in folders:
        _, run, tables = workflow.show(str(folder), folder.parent.parent)
        runs += [(run, table) for table in tables]
    rows = [{row.variant: row for row in table.rows} for _, table in runs]
    names = list(dict.fromkeys(name for each in rows for name in each))
    header = ["variant", *(run.study.name.removeprefix("recipes-") for run, _ in runs)]
    cells = [[name, *(cell(each.get(name)) for each in rows)] for name in names]
    lines = [HEAD, *(item(described(run, table)) for run, table in runs), "", *markdown.grid(header, cells), ""]
    lines += ["Not there, and why:", "", *map(item, reasons(runs))] if reasons(runs) else []
    page.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
