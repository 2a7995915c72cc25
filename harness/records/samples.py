"""samples.parquet: every timed iteration, one row each.

Columns: device, case, beside (the case that it was measured beside, in its process or in turn in separate processes; or null), round, rebuild, block, used (whether its block counts), iteration,
nanoseconds. A launch is one (device, case, beside, round).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import duckdb
import numpy as np

from harness import files
from harness.errors import ResultsError
from harness.measure.launch import Launch
from harness.records.assemble import counting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from harness.measure.events import Event
    from harness.measure.plan import Case

Result = TypeVar("Result")
QUANTILES = (0.9, 0.99)
# (device, case, the case beside it or None, round); cases by their ids.
LaunchKey = tuple[str, str, str | None, int]
# A block's columns as arrays. Names are never empty: that stands for none.
BLOCKS = {
    "id": np.int32, "device": object, "case": object, "beside": object, "round": np.int32, "rebuild": np.int32, "block": np.int32,
    "used": np.bool_,
}  # fmt: skip
TYPED = 'device::VARCHAR AS device, "case"::VARCHAR AS "case", nullif(beside::VARCHAR, \'\') AS beside, round, rebuild, block, used, iteration'


class Blocks:
    """The blocks of a run's launches, without anything else of them: a run of many devices has hundreds of thousands.

    Args:
        cases: the run's, for their names.
    """

    def __init__(self, cases: Sequence[Case]) -> None:
        self._names = {case.id: case.name for case in cases}
        self._rows: list[list[object]] = []
        self._arrays: list[NDArray[np.int64]] = []

    def noting(self, events: Iterable[Event]) -> Iterator[Event]:
        """Pass events on, and note the blocks of those that have some."""
        for event in events:
            if isinstance(event, Launch):
                self.add(event)
            yield event

    def add(self, launch: Launch) -> None:
        """Note a process's blocks: their columns but for the iteration, and their nanoseconds."""
        for index, case in enumerate(launch.cases):
            other = next((self._names[name] for name in launch.separate_processes or launch.cases if name != case), None)
            for number, rebuild in enumerate(launch.rebuilds):
                used = {id(pair) for pair in counting(rebuild)}
                for block, pair in enumerate(rebuild.pairs):
                    what = (launch.device, self._names[case], other or "", launch.round, number, block, id(pair) in used)
                    self._rows.append([len(self._rows), *what])
                    self._arrays.append(pair.samples[index].nanoseconds)

    def write(self, path: Path) -> None:
        """Write all samples, in the order of the columns.

        Raises:
            ResultsError: if the file can't be written.
        """
        # DuckDB reads tables of arrays; row by row it would take longer than all the rest of a report.
        columns: Sequence[Sequence[object]] = list(zip(*self._rows, strict=True)) or [()] * len(BLOCKS)
        blocks: dict[str, NDArray[Any]] = {
            name: np.array(column, dtype=kind) for (name, kind), column in zip(BLOCKS.items(), columns, strict=True)
        }
        lengths = [len(each) for each in self._arrays]
        samples = {
            "id": np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
            "iteration": np.concatenate([np.arange(length, dtype=np.int32) for length in lengths] or [np.empty(0, np.int32)]),
            "nanoseconds": np.concatenate([*self._arrays, np.empty(0, np.int64)]),
        }

        def copy(connection: duckdb.DuckDBPyConnection, beside: Path) -> None:
            connection.register("blocks", blocks)
            connection.register("samples", samples)
            query = f"SELECT {TYPED}, nanoseconds FROM samples JOIN blocks USING (id) ORDER BY ALL"  # noqa: S608 - constants
            connection.execute(f"COPY ({query}) TO ? (FORMAT parquet, COMPRESSION zstd)", [str(beside)])

        try:
            with files.replacing(path) as beside:
                _aside(lambda connection: copy(connection, beside))
        except (OSError, duckdb.IOException) as exc:
            # DuckDB appends JSON to its words.
            words = str(exc).splitlines()[0].partition("{")[0].strip()
            message = f"{path}: can't be written: {words}; free disk space; what was measured is in {path.with_name('journal.jsonl')}, and 'harness show {path.parent}' shows it"
            raise ResultsError(message) from exc


def read_quantiles(path: Path, cases: Sequence[Case]) -> dict[LaunchKey, tuple[float, ...]]:
    """Compute each launch's quantiles over the blocks that count: linear interpolation between order statistics, as numpy's default.

    Args:
        path: of the file, which has the cases' names.
        cases: the run's, for their ids.

    Returns:
        The :data:`QUANTILES` in nanoseconds, by launch.

    Raises:
        ResultsError: if the file can't be read.
    """
    query = """
        SELECT device, "case", beside, round, quantile_cont(nanoseconds, ?::DOUBLE[])
        FROM read_parquet(?) WHERE used GROUP BY ALL ORDER BY ALL
    """
    try:
        rows = _aside(lambda connection: connection.execute(query, [list(QUANTILES), str(path)]).fetchall())
    except duckdb.Error as exc:
        message = f"{path}: can't be read: {exc}"
        raise ResultsError(message) from exc
    ids: dict[str | None, str] = {case.name: case.id for case in cases}
    return {
        (device, ids[case], ids.get(beside), number): tuple(values)
        for device, case, beside, number, values in rows
        if case in ids
    }


def _aside(query: Callable[[duckdb.DuckDBPyConnection], Result]) -> Result:
    """Run a DuckDB query on a separate thread: on the main thread, DuckDB handles Ctrl-C itself and raises its own error."""
    with ThreadPoolExecutor(1, thread_name_prefix="duckdb") as pool:
        return pool.submit(_connected, query).result()


def _connected(query: Callable[[duckdb.DuckDBPyConnection], Result]) -> Result:
    with duckdb.connect() as connection:
        return query(connection)
