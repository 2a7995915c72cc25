"""How long ``harness --help`` takes, beside a bare Python, one that imports the libraries of the command line, and one that imports what a run needs; whole processes, in turn."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python": ["-c", "pass"],
    "terminal": ["-c", "import typer, rich"],
    "help": ["-c", "import sys; sys.argv = ['harness', '--help']; from harness.cli import main; main()"],
    "libraries": ["-c", "import harness, onnx, onnxruntime, scipy.stats, matplotlib, fabric, duckdb, pydantic"],
}


def seconds(words: list[str]) -> float:
    """Wall time of one process, in seconds."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


def measure(rounds: int) -> dict[str, float]:
    """Run the commands in turn; gives medians in seconds and the median of the ratios of each round."""
    times = [{name: seconds(words) for name, words in COMMANDS.items()} for _ in range(rounds + 1)][1:]
    found = {f"{name}_seconds": statistics.median(each[name] for each in times) for name in COMMANDS}
    found["help_vs_python"] = statistics.median(each["help"] / each["python"] for each in times)
    found["help_vs_terminal"] = statistics.median(each["help"] / each["terminal"] for each in times)
    found["help_vs_libraries"] = statistics.median(each["help"] / each["libraries"] for each in times)
    return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    found = measure(options.rounds)
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:20} {value:.3f}")


if __name__ == "__main__":
    main()
