from __future__ import annotations

import json

from harness.devices.device import Device
from harness.measure.events import Evaluated, Event
from harness.records.run import DeviceRecord
from harness.report import operators
from tests import duets
from tests.report.runs import FAST, FP32, NASTY, SHA, case, finish, variant

EVALUATED = {
    "device": "rpi4", "case": "c1", "outputs": {"name": "o", "size": 1, "sha256": SHA}, "load_ns": 1, "first_ns": 1, "seconds": 1.0,
    "graph": {
        "fingerprint": "f", "nodes": 3,
        "ops": [
            {"op": "Conv", "provider": "CPUExecutionProvider", "count": 2, "microseconds": 30.0},
            {"op": NASTY[:20], "provider": "XnnpackExecutionProvider", "count": 1, "microseconds": 90.0},
        ],
    },
}  # fmt: skip


def test_operators_come_with_their_share_the_slowest_first() -> None:
    record = DeviceRecord(entry=Device(name="rpi4", host="h"))
    events: list[Event] = [Evaluated.model_validate(EVALUATED), duets.launch("rpi4", ["c0", "c1"], 0, [[2, 1]])]
    judgement = finish(events, record, variants=[variant(FP32), variant(FAST)], cases=[case("c0", FP32), case("c1", FAST)])
    lines = operators.render(judgement).decode().splitlines()
    assert lines[1].strip() == f"{FAST} · graph A · 3 nodes"
    assert [line.split()[-4:] for line in lines[2:4]] == [
        ["%", "90.0", "µs", "XnnpackExecutionProvider"],
        ["25.0", "%", "30.0", "µs"],
    ]
    assert "makes the times too long" in lines[-1]
    content = operators.content(judgement)
    assert [(each["op"], each["count"]) for each in content] == [(NASTY[:20], 1), ("Conv", 2)]
    assert json.dumps(content)


def test_a_run_without_graphs_has_none() -> None:
    record = DeviceRecord(entry=Device(name="rpi4", host="h"))
    judgement = finish([], record, variants=[variant(FP32)], cases=[case("c0", FP32)])
    assert operators.content(judgement) == []
