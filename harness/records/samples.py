"""samples.parquet: every counted iteration, one row each: device, case, round, iteration, nanoseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import numpy as np

from harness.errors import ResultsError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.measure.journal import Block
    from harness.measure.plan import Case

QUANTILES = (0.5, 0.9, 0.99)


def write(path: Path, blocks: Sequence[Block], cases: Sequence[Case]) -> None:
    """Write the samples of blocks, in the order device, case, round, iteration.

    Raises:
        ResultsError: if the file can't be written.
    """
    names = {case.id: case.name for case in cases}
    lengths = [len(block.ns) for block in blocks]
    # DuckDB reads these two tables of arrays by their variables' names.
    samples = {
        "block": np.repeat(np.arange(len(blocks), dtype=np.int32), lengths),
        "iteration": np.concatenate([np.arange(n, dtype=np.int32) for n in lengths] or [np.empty(0, np.int32)]),
        "nanoseconds": np.concatenate([np.asarray(block.ns, dtype=np.int64) for block in blocks] or [np.empty(0, np.int64)]),
    }
    beside = path.with_name(path.name + ".new")
    try:
        with duckdb.connect() as connection:
            connection.execute('CREATE TABLE blocks (block INTEGER, device VARCHAR, "case" VARCHAR, round INTEGER)')
            for number, block in enumerate(blocks):
                row = [number, block.device, names[block.case], block.round]
                connection.execute("INSERT INTO blocks VALUES (?, ?, ?, ?)", row)
            connection.register("samples", samples)
            order = 'device, "case", round, iteration'
            query = f"SELECT {order}, nanoseconds FROM samples JOIN blocks USING (block) ORDER BY {order}"  # noqa: S608 - constants
            connection.execute(f"COPY ({query}) TO ? (FORMAT parquet, COMPRESSION zstd)", [str(beside)])
        beside.replace(path)
    except (OSError, duckdb.IOException) as exc:
        message = f"{path}: can't be written: {exc}"
        raise ResultsError(message) from exc


def quantiles(path: Path) -> dict[tuple[str, str], dict[int, tuple[float, ...]]]:
    """Compute each block's quantiles: linear interpolation between order statistics, as numpy's default.

    Returns:
        By (device, case name), then by round: the :data:`QUANTILES` in nanoseconds.

    Raises:
        ResultsError: if the file can't be read.
    """
    query = """
        SELECT device, "case", round, quantile_cont(nanoseconds, ?::DOUBLE[])
        FROM read_parquet(?) GROUP BY ALL ORDER BY ALL
    """
    try:
        with duckdb.connect() as connection:
            rows = connection.execute(query, [list(QUANTILES), str(path)]).fetchall()
    except duckdb.Error as exc:
        message = f"{path}: can't be read: {exc}"
        raise ResultsError(message) from exc
    found: dict[tuple[str, str], dict[int, tuple[float, ...]]] = {}
    for device, case, number, values in rows:
        found.setdefault((device, case), {})[number] = tuple(values)
    return found
