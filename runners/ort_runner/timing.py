"""Times calls of sessions: for so many seconds, in turn, or until they are warm."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Callable

if TYPE_CHECKING:
    import random

# A block has at least so many iterations, unless one alone takes longer than LONG_BLOCK seconds.
LEAST_ITERATIONS, LONG_BLOCK = 3, 0.5
# Warm-up: two windows in a row whose medians differ by no more than this are steady.
STEADY, WINDOW_SECONDS, WINDOW_LEAST = 0.01, 0.01, 3


def timed(call: Callable[[], object], seconds: float, least: int = LEAST_ITERATIONS) -> list[int]:
    """Time every iteration by itself, for so many seconds and so many iterations; nanoseconds of the monotonic clock."""
    clock = time.perf_counter_ns
    samples: list[int] = []
    before = clock()
    enough, limit = before + int(seconds * 1e9), before + int(max(seconds, LONG_BLOCK) * 1e9)
    while before < enough or (len(samples) < least and before < limit) or not samples:
        before = clock()
        call()
        after = clock()
        samples.append(after - before)
    return samples


def timed_in_turn(calls: list[Callable[[], object]], seconds: float, chance: random.Random) -> list[list[int]]:
    """Time two models call by call, the order within each pair of calls random: each finds the other's data in the caches."""
    clock = time.perf_counter_ns
    samples: list[list[int]] = [[], []]
    before = clock()
    enough, limit = before + int(2 * seconds * 1e9), before + int(2 * max(seconds, LONG_BLOCK) * 1e9)
    while before < enough or (len(samples[0]) < LEAST_ITERATIONS and before < limit) or not samples[0]:
        for index in (0, 1) if chance.getrandbits(1) else (1, 0):
            before = clock()
            calls[index]()
            after = clock()
            samples[index].append(after - before)
    return samples


def warm(call: Callable[[], object], limit: float) -> tuple[int, bool]:
    """Call until two windows in a row have medians within 1 %, for so many seconds at most.

    After Georges, Buytaert, Eeckhout (Statistically Rigorous Java Performance Evaluation, OOPSLA 2007), who take the coefficient of variation over a window; medians,
    for one interruption must not prolong it.

    Returns:
        How many calls, and whether they came to be steady.
    """
    begun, calls, last = time.perf_counter(), 0, 0.0
    while True:
        window = timed(call, WINDOW_SECONDS, WINDOW_LEAST)
        calls += len(window)
        middle = statistics.median(window)
        if last and abs(middle - last) <= STEADY * last:
            return calls, True
        # A model that takes seconds gets its second window too.
        if last and time.perf_counter() - begun > limit:
            return calls, False
        last = middle
