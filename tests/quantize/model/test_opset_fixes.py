"""Every row of the table: the converter alone gives another model or none that runs, and the row keeps the meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import helper, version_converter

from harness.quantize import opset
from harness.quantize.model.opset_fixes import FIXES, Fix
from harness.quantize.verify import equivalence
from tests.conftest import ROOT
from tests.models import make_model
from tests.quantize.nodes import cases
from tests.quantize.nodes.case import Case

if TYPE_CHECKING:
    from collections.abc import Iterator

FIXED = {op for fix in FIXES for op in fix.op_types}


def chosen() -> Iterator[tuple[Case, int, int]]:
    """Yield cases of the table and some with bodies, each with the last opset of its form and those that it is raised to."""
    first = {op: fix.at for fix in FIXES for op in fix.op_types} | {"If": 11, "Loop": 13}
    for case in cases():
        if case.low < first.get(case.op, 0):
            source = min(case.high, first[case.op] - 1)
            yield case, source, next(target for target in (11, 13, 21) if target >= first[case.op])
            yield case, source, 21


CASES = list(chosen())


@pytest.mark.parametrize(("case", "source", "target"), CASES, ids=lambda each: str(each)[:60])
def test_the_meaning_is_kept(case: Case, source: int, target: int) -> None:
    model = case.model(source)
    raised = opset.raised(model, target)
    before, after = (equivalence.run(each.SerializeToString(), case.feed())[0] for each in (model, raised))
    assert equivalence.compare(before, after) is None
    assert not [entry for entry in raised.opset_import if entry.domain]


@pytest.mark.parametrize("fix", FIXES, ids=lambda fix: fix.op_types[0])
def test_each_row_is_needed(fix: Fix) -> None:
    """Fails as soon as the converter does right what the row says that it does wrong: the row may go then."""
    wrong = 0
    for case in cases():
        if case.op not in fix.op_types or case.low >= fix.at:
            continue
        model = case.model(case.low)
        before = equivalence.run(model.SerializeToString(), case.feed())[0]
        try:
            converted = version_converter.convert_version(model, fix.at)
            wrong += equivalence.compare(before, equivalence.run(converted.SerializeToString(), case.feed())[0]) is not None
        except Exception:  # noqa: BLE001 - the converter refuses it, or onnxruntime what it made
            wrong += 1
    assert wrong


def test_every_operator_that_changed_has_cases() -> None:
    """Of those that quantized models have; the rest is about sequences and optionals."""
    versions: dict[str, set[int]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            versions.setdefault(schema.name, set()).add(schema.since_version)
    changed = {name for name, since in versions.items() if any(7 < each <= 21 and min(since) < each for each in since)}
    assert changed - {case.op for case in cases()} == {"OptionalGetElement", "OptionalHasElement"}


def test_the_page_has_the_table() -> None:
    page = (ROOT / "docs" / "preparation.md").read_text(encoding="utf-8")
    rows = "".join(f"| {', '.join(fix.op_types)} | {fix.at} | {fix.fault} | {fix.source} |\n" for fix in FIXES)
    assert rows in page, f"write these rows:\n{rows}"


def test_the_node_keeps_its_name() -> None:
    """Recipes exclude nodes by their names."""
    for case, source, target in CASES:
        if case.op in FIXED:
            assert "node" in {node.name for node in opset.raised(case.model(source), target).graph.node}, str(case)


def test_names_that_are_taken_are_not_taken_again() -> None:
    nodes = [
        helper.make_node("Hardmax", ["x"], ["y"], "hard", axis=1),
        helper.make_node("Identity", ["x"], ["y_shape"], "hard_shape"),
        helper.make_node("Identity", ["x"], ["y_flat"], "other"),
    ]
    shape = [2, 3, 4]
    model = make_model(nodes, {"x": shape}, {"y": shape, "y_shape": shape, "y_flat": shape}, opset=12)
    raised = opset.raised(model, 13)
    feed = {"x": np.random.default_rng(0).normal(size=shape).astype(np.float32)}
    before, after = (equivalence.run(each.SerializeToString(), feed)[0] for each in (model, raised))
    assert equivalence.compare(before, after) is None
    assert len({node.name for node in raised.graph.node}) == len(raised.graph.node)


def test_constants_of_every_sort_stand_beside() -> None:
    """Floats, and texts, which are no arrays of numbers."""
    nodes = [
        helper.make_node("Constant", [], ["f"], value_floats=[1.0, 2.0, 3.0, 4.0]),
        helper.make_node("Constant", [], ["t"], value_string=b"word"),
        helper.make_node("Add", ["x", "f"], ["a"]),
        helper.make_node("Hardmax", ["a"], ["y"], "hard", axis=1),
    ]
    raised = opset.raised(make_model(nodes, {"x": [2, 3, 4]}, {"y": [2, 3, 4]}, opset=12), 13)
    feed = {"x": np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)}
    assert equivalence.run(raised.SerializeToString(), feed)[0]["y"].sum() == 2


def test_functions_are_written_out() -> None:
    """The converter drops them, and leaves calls of what is no longer there."""
    softmax = helper.make_node("Softmax", ["a"], ["b"], axis=1)
    function = helper.make_function("own", "Twice", ["a"], ["b"], [softmax], [helper.make_opsetid("", 11)])
    call = helper.make_node("Twice", ["x"], ["y"], "call", domain="own")
    model = make_model([call], {"x": [2, 3, 4]}, {"y": [2, 3, 4]}, opset=11)
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.functions.append(function)
    raised = opset.raised(model, 13)
    feed = {"x": np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)}
    before, after = (equivalence.run(each.SerializeToString(), feed)[0] for each in (model, raised))
    assert equivalence.compare(before, after) is None
    onnx.checker.check_model(raised)
