from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pytest

from harness.errors import ResultsError
from harness.measure.journal import Block
from harness.measure.plan import Case
from harness.records import samples

CASES = [
    Case(id=f"c{n}", name=name, variant=name, threads=1, provider="CPU", dims={})
    for n, name in enumerate(["fp32", 'it\'s "odd"'])
]


def block(case: str, number: int, ns: list[int], device: str = "local") -> Block:
    return Block(
        device=device,
        case=case,
        round=number,
        load_ns=1,
        first_ns=1,
        warmup=1,
        ns=ns,
        cpu_ns=1,
        wall_ns=1,
        involuntary_switches=0,
    )


def test_every_iteration_is_a_row_in_order(tmp_path: Path) -> None:
    path = tmp_path / "samples.parquet"
    samples.write(path, [block("c1", 1, [5, 4]), block("c0", 0, [3, 2, 1], "zeta"), block("c1", 0, [9])], CASES)
    rows = duckdb.execute(f"SELECT * FROM '{path}'").fetchall()
    odd = CASES[1].name
    assert rows == [("local", odd, 0, 0, 9), ("local", odd, 1, 0, 5), ("local", odd, 1, 1, 4)] + [
        ("zeta", "fp32", 0, iteration, ns) for iteration, ns in enumerate([3, 2, 1])
    ]


def test_quantiles_are_numpys(tmp_path: Path) -> None:
    path = tmp_path / "samples.parquet"
    ns = np.random.default_rng(0).integers(1, 10**9, 357).tolist()
    samples.write(path, [block("c0", 3, ns)], CASES)
    found = samples.quantiles(path)
    assert list(found) == [("local", "fp32")]
    assert found["local", "fp32"][3] == pytest.approx(np.quantile(ns, samples.QUANTILES))


def test_no_samples_at_all(tmp_path: Path) -> None:
    path = tmp_path / "samples.parquet"
    samples.write(path, [], CASES)
    assert samples.quantiles(path) == {}


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    path = tmp_path / "samples.parquet"
    path.write_text("no parquet")
    with pytest.raises(ResultsError, match=r"samples\.parquet: can't be read"):
        samples.quantiles(path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"samples\.parquet: can't be written"):
        samples.write(tmp_path / "none" / "samples.parquet", [block("c0", 0, [1])], CASES)
