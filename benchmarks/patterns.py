"""What becomes of structures that real models consist of, in every recipe, and whether the harness says why where that is not good.

Each structure is built by a function with parameters (``benchmarks/patterns/families``), taken by a worker process, and judged
(``benchmarks/patterns/verdicts.py``). What is found is kept in FOLDER/results.jsonl, so that a run that was cut goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import onnx
import onnxruntime

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "benchmarks" / "patterns"
sys.path[:0] = [str(ROOT), str(HERE)]

import patterns_page  # noqa: E402
import sections  # noqa: E402
from crew import Crew  # noqa: E402
from families.registry import load_all  # noqa: E402

VERSIONS = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}


def main() -> int:
    """Examine, and print or write the page; 1 if a variant is not explained."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / "results" / "patterns", help="where results are kept")
    parser.add_argument(
        "--only", action="append", metavar="GLOB", help="only structures whose names match, such as 'attention/*'"
    )
    parser.add_argument("--jobs", type=int, default=1, help="worker processes")
    parser.add_argument("--seconds", type=float, default=120, help="time limit of one structure")
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier run found")
    parser.add_argument("--list", action="store_true", help="print the names of the structures, and end")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write the page there instead of printing it")
    parser.add_argument(
        "--coverage",
        type=Path,
        metavar="PAGE",
        help="write the counts into that page's section as well, such as docs/coverage.md",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    given = parser.parse_args()
    names = [name for name in sorted(load_all()) if any(fnmatchcase(name, glob) for glob in given.only or ["*"])]
    if not names:
        parser.error(f"no structure matches {', '.join(given.only)}; --list shows all names")
    if given.list:
        print("\n".join(names))
        return 0
    folder = given.folder.resolve()
    if given.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    results = Crew(HERE / "pattern_worker.py", folder, given.seconds, given.jobs).examine(names, VERSIONS)
    if given.json:
        print(json.dumps({"versions": VERSIONS, **patterns_page.summary(results)}, indent=1))
    elif given.write:
        given.write.write_text(patterns_page.render(results, VERSIONS), encoding="utf-8")
    else:
        print(patterns_page.render(results, VERSIONS))
    if given.coverage:
        text = given.coverage.read_text(encoding="utf-8")
        given.coverage.write_text(
            sections.replaced(text, patterns_page.HEADING, patterns_page.section(results)), encoding="utf-8"
        )
    return int(patterns_page.unexplained(results) > 0)


if __name__ == "__main__":
    sys.exit(main())
