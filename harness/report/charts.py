"""One SVG chart for each device: every case's speed-up against fp32, with its interval."""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from harness.judge.intervals import Estimate
    from harness.judge.row import Row
    from harness.judge.table import Table

FASTER, SLOWER, ALIKE, INK, FAINT = "#0072b2", "#d55e00", "#6b7280", "#1f2933", "#d9dee5"
COLOURS = {1: FASTER, -1: SLOWER, 0: ALIKE}
FONT = "DejaVu Sans"
STYLE: dict[Any, Any] = {
    "font.family": FONT,
    "font.size": 9,
    "svg.hashsalt": "harness",
    "svg.fonttype": "path",
    # '$' in a name is a dollar, not mathematics.
    "text.parse_math": False,
}
LONGEST_NAME = 60
# Inches.
ROW, CHARACTER, PLOT, FRAME = 0.28, 0.085, 4.6, 0.75
# How far an interval may stretch the axis beyond the values; a wider one is cut off.
STRETCH = 3.0
# Up to this ratio of its ends an axis gets evenly spaced ticks.
NARROW = 4.0


def drawable(table: Table) -> bool:
    """Whether a device gets a chart: one that failed or is emulated gets none, nor one with nothing to compare."""
    return table.device.state != "failed" and not table.emulated and any(_speedup(row) for row in table.rows)


def name(table: Table) -> str:
    """The chart's file name; a device's name is made of letters, digits, '.', '_', '+' and '-'."""
    return f"{table.device.entry.name}.svg"


def render(table: Table) -> bytes:
    """Draw the chart of a device for which :func:`drawable` holds; the same rows give the same bytes."""
    labels = [_label(row.case) for row in table.rows]
    left = CHARACTER * max(map(len, labels)) + 0.2
    width, height = left + PLOT + 1.0, ROW * len(labels) + FRAME
    out = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), facecolor="white")
        axes = figure.add_axes((left / width, 0.5 / height, PLOT / width, 1 - FRAME / height))
        _frame(axes, labels, [found for row in table.rows if (found := _speedup(row))])
        for position, row in enumerate(table.rows):
            _draw(axes, position, row)
        figure.savefig(out, format="svg", bbox_inches="tight", pad_inches=0.1, metadata={"Date": None, "Creator": None})
    return out.getvalue()


def _speedup(row: Row) -> Estimate | None:
    """A row's speed-up, if it counts: that of a case which failed later does not."""
    return row.speedup if row.state == "measured" else None


def _frame(axes: Axes, labels: Sequence[str], found: Sequence[Estimate]) -> None:
    """Set the axes up: a line for each label, the first one on top, and a logarithmic axis that holds 1×."""
    values = [1.0, *(estimate.value for estimate in found)]
    low, high = min(values), max(values)
    low = max(low / STRETCH, min([low, *(estimate.low for estimate in found if estimate.low is not None)]))
    high = min(high * STRETCH, max([high, *(estimate.high for estimate in found if estimate.high is not None)]))
    margin = max(1.02, (high / low) ** 0.06)
    low, high = low / margin, high * margin
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(_ticks(low, high)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    axes.set_xlabel("speed-up against fp32, with its 95 % interval", color=INK)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(length=0, colors=INK)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.axvline(1.0, color=INK, linewidth=1.0, zorder=1.5)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from low to high."""
    if high / low <= NARROW:
        ticks = [float(tick) for tick in MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]
    else:
        ticks = [digit * 10.0**power for power in range(-12, 13) for digit in (1, 2, 5)]
    return [tick for tick in ticks if low <= tick <= high]


def _draw(axes: Axes, position: int, row: Row) -> None:
    """Draw a row: a point with its interval and its value, or the state of a case without one."""
    speedup = _speedup(row)
    if speedup is None:
        words = "there is no fp32 case to compare with" if row.state == "measured" else str(row.state)
        axes.text(0.01, position, words, transform=axes.get_yaxis_transform(), va="center", color=ALIKE, style="italic")
        return
    known = speedup.low is not None and speedup.high is not None
    colour = ALIKE
    if speedup.low is not None and speedup.high is not None:
        colour = COLOURS[speedup.direction]
        axes.hlines(position, speedup.low, speedup.high, color=colour, linewidth=1.6)
        axes.plot([speedup.low, speedup.high], [position] * 2, "|", color=colour, markersize=7)
    # A hollow point has no interval.
    axes.plot(speedup.value, position, "o", markersize=5.5, color=colour, markerfacecolor=colour if known else "white")
    words = f"{speedup.value:.3g}×" if known else f"{speedup.value:.3g}× [?]"
    axes.text(1.02, position, words, transform=axes.get_yaxis_transform(), va="center", color=colour)


def _label(words: str) -> str:
    """A case's name as the font can draw it, and no longer than the chart can show."""
    known = _characters()
    drawn = "".join(letter if ord(letter) in known else "?" for letter in " ".join(words.split()))
    return drawn if len(drawn) <= LONGEST_NAME else f"{drawn[: LONGEST_NAME // 2]}…{drawn[1 - LONGEST_NAME // 2 :]}"


@functools.cache
def _characters() -> frozenset[int]:
    """The characters that the font has; matplotlib warns of any other."""
    return frozenset(font_manager.get_font(font_manager.findfont(FONT)).get_charmap())
