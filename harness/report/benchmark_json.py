"""benchmark.json: what pytest-benchmark 5 writes, for its own 'compare', github-action-benchmark, bencher and their like; in seconds.

A round of pytest-benchmark is a process here, and its value the case's median there: processes are independent, and
only they tell how precise a number is. The statistics follow pytest-benchmark's definitions over those values.
"""

from __future__ import annotations

import json
import statistics
from datetime import UTC
from typing import TYPE_CHECKING, Any

from harness.measure.request import LEAST_ROUNDS
from harness.report import figures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.judge.judgement import Judgement
    from harness.judge.row import Row
    from harness.measure.plan import Case
    from harness.records.run import DeviceRecord, Run

# The release of pytest-benchmark whose format this is.
VERSION = "5.3.1"
REPLICATES = "one value per launch: the geometric mean, over the rebuilds, of the median iteration of its blocks"
# Tukey's fences, in interquartile ranges.
FENCE = 1.5


def render(judgement: Judgement) -> bytes:
    """Write the object: the cases that were measured on devices that are not emulated; no NaN or Infinity appears."""
    run, tables = judgement.run, judgement.tables
    timed = {table.device.entry.name: [row for row in table.rows if _is_timed(row)] for table in tables if not table.emulated}
    devices = [table.device for table in tables if timed.get(table.device.entry.name)]
    content = {
        "machine_info": _joined([_machine(device) for device in devices] or [_machine(None)]),
        "commit_info": _commit(run),
        "benchmarks": [_benchmark(run, device, row) for device in devices for row in timed[device.entry.name]],
        "datetime": run.started.astimezone(UTC).replace(tzinfo=None).isoformat(),
        "version": VERSION,
    }
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def _is_timed(row: Row) -> bool:
    return row.state == "measured" and row.median is not None


def _joined(said: Sequence[Any]) -> Any:  # noqa: ANN401 - JSON
    """Join the values of several devices, because the format has only one place for them; each benchmark names its device."""
    if isinstance(said[0], dict):
        return {key: _joined([each[key] for each in said]) for key in said[0]}
    distinct = list(dict.fromkeys(each for each in said if each is not None))
    return distinct[0] if len(distinct) == 1 else ", ".join(map(str, distinct)) or None


def _machine(device: DeviceRecord | None) -> dict[str, Any]:
    """Describe a device as the format does."""
    facts = device.facts if device else None
    return {
        "node": device.entry.name if device else None,
        "processor": facts.cpu_model or facts.arch if facts else None,
        "machine": facts.arch if facts else None,
        "python_version": facts.python if facts else None,
        "release": facts.kernel if facts else None,
        "cpu": {
            "brand_raw": facts.cpu_model or facts.arch if facts else None,
            "arch_string_raw": facts.arch if facts else None,
            "count": facts.cores if facts else None,
        },
    }


def _commit(run: Run) -> dict[str, Any]:
    """The format's commit: empty, because a run measures a model, which benchmarks name by its hash."""
    return {
        "id": "unversioned",
        "time": None,
        "author_time": None,
        "dirty": False,
        "project": run.study.name,
        "branch": "(unknown)",
    }


def _benchmark(run: Run, device: DeviceRecord, row: Row) -> dict[str, Any]:
    name, measure = device.entry.name, run.study.measure
    case = next(case for case in run.cases if case.id == row.id)
    iterations = [
        count
        for launch in run.launches
        if launch.device == name
        for which, count in zip(launch.cases, launch.iterations, strict=True)
        if which == case.id
    ]
    return {
        "group": f"{run.study.name}.{name}",
        "name": row.case,
        "fullname": f"{run.study.name}.{name}::{row.case}",
        "params": {"device": name, "variant": case.variant, "threads": case.threads, "provider": case.provider, **case.dims},
        "param": row.case,
        "extra_info": _extra(run, device, row, case, iterations),
        "options": {
            "disable_gc": True,
            "timer": "perf_counter_ns",
            "min_rounds": min(LEAST_ROUNDS, measure.rounds),
            "max_time": measure.max_time,
            "min_time": measure.block,
            "warmup": measure.warmup > 0,
        },
        "stats": _stats([median / 1e3 for median in row.medians]) | {"iterations": min(iterations)},
    }


def _extra(run: Run, device: DeviceRecord, row: Row, case: Case, iterations: list[int]) -> dict[str, Any]:
    facts = device.facts
    speedup = row.speedup
    return {
        "replicates": REPLICATES,
        "iterations": iterations,
        "run": run.id,
        "harness": run.versions.harness,
        "device": device.entry.name,
        "cpu": facts.cpu_model or facts.arch if facts else None,
        "onnxruntime": case.runtime or (facts.onnxruntime.version if facts else None),
        "model_sha256": run.model_sha256,
        "variant_sha256": run.variant(case.variant).sha256,
        "size": row.size,
        "accuracy": row.accuracy,
        **figures.flat(row.fidelity),
        "notes": list(row.notes),
        "metrics": dict(row.metrics),
        "speedup": speedup.value if speedup else None,
        "speedup_low": speedup.low if speedup else None,
        "speedup_high": speedup.high if speedup else None,
    }


def _stats(data: list[float]) -> dict[str, Any]:
    """The statistics that pytest-benchmark defines, of one value per round."""
    ordered, mean = sorted(data), statistics.mean(data)
    spread = statistics.stdev(data) if len(data) > 1 else 0
    lower, upper = _quartile(ordered), _quartile(ordered[::-1])
    reach = FENCE * (upper - lower)
    near = [value for value in ordered if lower - reach <= value <= upper + reach]
    beyond = sum(abs(value - mean) > spread for value in data)
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": mean,
        "stddev": spread,
        "rounds": len(data),
        "median": statistics.median(data),
        "iqr": upper - lower,
        "q1": lower,
        "q3": upper,
        "iqr_outliers": len(data) - len(near),
        "stddev_outliers": beyond,
        "outliers": f"{beyond};{len(data) - len(near)}",
        "ld15iqr": near[0],
        "hd15iqr": near[-1],
        "ops": len(data) / sum(data),
        "total": sum(data),
        "data": data,
    }


def _quartile(ordered: list[float]) -> float:
    """The median of the first half; of an odd number, the mean of those with and without the middle one."""
    half = len(ordered) // 2
    without, within = ordered[:half] or ordered, ordered[: len(ordered) - half]
    return (statistics.median(without) + statistics.median(within)) / 2
