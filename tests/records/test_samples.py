from __future__ import annotations

import threading
from pathlib import Path

import duckdb
import numpy as np
import pytest

from harness.errors import ResultsError
from harness.measure.launch import Launch
from harness.measure.plan import Case
from harness.records import samples
from tests import duets

CASES = [
    Case(id=f"c{n}", name=name, variant=name, threads=1, provider="CPU", dims={})
    for n, name in enumerate(["fp32", 'it\'s "odd"'])
]


def block(case: str, number: int, ns: list[int], device: str = "local") -> Launch:
    return Launch.model_validate({**duets.line([case], number, duets.rebuild(duets.pair([ns]))), "device": device})


def write(path: Path, *found: Launch) -> None:
    blocks = samples.Blocks(CASES)
    for launch in found:
        blocks.add(launch)
    blocks.write(path)


def test_every_iteration_is_a_row_in_order(tmp_path: Path) -> None:
    path = tmp_path / "samples.parquet"
    write(path, block("c1", 1, [5, 4]), block("c0", 0, [3, 2, 1], "zeta"), block("c1", 0, [9]))
    rows = duckdb.execute(f"SELECT * FROM '{path}'").fetchall()
    odd = CASES[1].name
    assert rows == [
        ("local", odd, None, 0, 0, 0, True, 0, 9),
        ("local", odd, None, 1, 0, 0, True, 0, 5),
        ("local", odd, None, 1, 0, 0, True, 1, 4),
    ] + [("zeta", "fp32", None, 0, 0, 0, True, iteration, ns) for iteration, ns in enumerate([3, 2, 1])]


def test_a_duets_samples_name_what_ran_beside_them_and_which_count(tmp_path: Path) -> None:
    path = tmp_path / "samples.parquet"
    good, bad = duets.pair([[10], [20]]), duets.pair([[11], [21]], disturbed=["cpu"])
    said = duets.line(["c0", "c1"], 2, duets.rebuild(good, bad), duets.rebuild(bad))
    write(path, Launch.model_validate({**said, "device": "d"}))
    rows = duckdb.execute(f"SELECT \"case\", beside, rebuild, block, used, nanoseconds FROM '{path}'").fetchall()
    odd = CASES[1].name
    assert rows == [
        ("fp32", odd, 0, 0, True, 10), ("fp32", odd, 0, 1, False, 11), ("fp32", odd, 1, 0, True, 11),
        (odd, "fp32", 0, 0, True, 20), (odd, "fp32", 0, 1, False, 21), (odd, "fp32", 1, 0, True, 21),
    ]  # fmt: skip
    assert list(samples.read_quantiles(path, CASES)) == [("d", "c0", "c1", 2), ("d", "c1", "c0", 2)]


def test_quantiles_are_numpys(tmp_path: Path) -> None:
    path = tmp_path / "samples.parquet"
    ns = np.random.default_rng(0).integers(1, 10**9, 357).tolist()
    found = block("c0", 3, ns)
    write(path, found)
    quantiles = samples.read_quantiles(path, CASES)
    assert list(quantiles) == [("local", "c0", None, 3)]
    kept = found.rebuilds[0].pairs[0].samples[0].nanoseconds
    assert quantiles["local", "c0", None, 3] == pytest.approx(np.quantile(kept, samples.QUANTILES))


def test_duckdb_never_runs_where_signals_are_handled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[threading.Thread] = []
    real = duckdb.connect

    def connect() -> duckdb.DuckDBPyConnection:
        seen.append(threading.current_thread())
        return real()

    monkeypatch.setattr(duckdb, "connect", connect)
    path = tmp_path / "samples.parquet"
    write(path, block("c0", 0, [1]))
    assert samples.read_quantiles(path, CASES)
    assert len(seen) == 2
    assert threading.main_thread() not in seen


def test_no_samples_at_all(tmp_path: Path) -> None:
    path = tmp_path / "samples.parquet"
    write(path)
    assert samples.read_quantiles(path, CASES) == {}


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    path = tmp_path / "samples.parquet"
    path.write_text("no parquet")
    with pytest.raises(ResultsError, match=r"samples\.parquet: can't be read"):
        samples.read_quantiles(path, CASES)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"samples\.parquet: can't be written"):
        write(tmp_path / "none" / "samples.parquet", block("c0", 0, [1]))


def test_launches_in_separate_processes_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "samples.parquet"
    one = Launch.model_validate({**duets.line(["c0"], 0, duets.rebuild(duets.pair([[10]])), apart=["c0", "c1"]), "device": "d"})
    other = Launch.model_validate({**duets.line(["c0"], 0, duets.rebuild(duets.pair([[90]]))), "device": "d"})
    write(path, one, other)
    assert samples.read_quantiles(path, CASES) == {("d", "c0", "c1", 0): (10.0, 10.0), ("d", "c0", None, 0): (90.0, 90.0)}
