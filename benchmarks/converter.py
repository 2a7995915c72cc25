"""What ONNX's version converter makes of each operator, alone and with the harness's fixes.

Every model of one node of ``tests/quantize/nodes`` is raised from each opset that has its form to 11, 13 and 21, and runs before and
after on onnxruntime: with known and with open sizes. ``--op Resize,Hardmax`` takes some operators only.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from onnx import version_converter

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from harness.quantize import opset  # noqa: E402
from harness.quantize.quiet import quiet  # noqa: E402
from harness.quantize.verify import equivalence  # noqa: E402
from tests.quantize import nodes  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from onnx import ModelProto

    from tests.quantize.nodes.case import Case

TARGETS = (11, 13, 21)
SAME, OTHER, BROKEN, REFUSED, IDLE = "same", "another result", "does not run", "refused", "does not run before"


def outcome(case: Case, source: int, convert: Callable[[ModelProto], ModelProto], *, ranks: bool = True) -> str:
    """Say what a conversion makes of a model."""
    feed = case.feed()
    try:
        model = case.model(source, ranks=ranks)
        (before,) = equivalence.run(model.SerializeToString(), feed)
    except Exception:  # noqa: BLE001 - onnxruntime's exceptions have no common base
        return IDLE
    try:
        with quiet():
            converted = convert(model)
    except Exception:  # noqa: BLE001 - the converter's neither
        return REFUSED
    try:
        (after,) = equivalence.run(converted.SerializeToString(), feed)
    except Exception:  # noqa: BLE001
        return BROKEN
    return OTHER if equivalence.compare(before, after) else SAME


def alone(target: int) -> Callable[[ModelProto], ModelProto]:
    """The converter as it is."""

    def convert(model: ModelProto) -> ModelProto:
        converted: ModelProto = version_converter.convert_version(model, target)
        onnx.checker.check_model(converted)
        return converted

    return convert


def mended(target: int) -> Callable[[ModelProto], ModelProto]:
    """The converter with the harness's fixes."""
    return lambda model: opset.raised(model, target)


def conversions(case: Case) -> Iterator[tuple[int, int, bool]]:
    """Yield each opset that a case is raised from and to, and whether its sizes are known."""
    for source in range(case.low, case.high + 1):
        for target in TARGETS:
            if source < target:
                yield source, target, True
                yield source, target, False


def main() -> None:
    """Print what is not the same, and the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--op", default="", help="names of operators, with commas")
    wanted = set(filter(None, parser.parse_args().op.split(",")))
    total: Counter[tuple[str, str]] = Counter()
    found: dict[tuple[str, str, str], set[tuple[int, int]]] = defaultdict(set)
    for case in nodes.cases():
        if wanted and case.op not in wanted:
            continue
        for source, target, ranks in conversions(case):
            pair = outcome(case, source, alone(target), ranks=ranks), outcome(case, source, mended(target), ranks=ranks)
            total[pair] += 1
            if pair != (SAME, SAME):
                found[(str(case), *pair)].add((source, target))
    for (name, by_itself, with_fixes), steps in found.items():
        shown = ", ".join(f"{source}→{target}" for source, target in sorted(steps))
        print(f"{name}: {by_itself}, with fixes: {with_fixes}: {shown}")
    for (by_itself, with_fixes), count in total.most_common():
        print(f"{count} conversions: {by_itself}, with fixes: {with_fixes}")


if __name__ == "__main__":
    main()
