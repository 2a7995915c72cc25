"""What a machine can be like while a benchmark measures on it: each is real work of other processes, on the processors that there are."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Each ends with the process that started it, also where that is killed.
# A neighbour that works half of the time, in periods of random length.
NEIGHBOUR = """\
import os, random, time
import numpy as np
parent = os.getppid()
a = np.random.rand(600, 600)
while os.getppid() == parent:
    end = time.time() + random.uniform(.05, .5)
    while time.time() < end: a @ a
    time.sleep(random.uniform(.05, .5))
"""
# A job that comes every 20 s and works for 5 s.
BURST = """\
import os, time
import numpy as np
parent = os.getppid()
a = np.random.rand(600, 600)
while os.getppid() == parent:
    end = time.time() + 5
    while time.time() < end: a @ a
    time.sleep(15)
"""
# What another guest of the same host takes from a processor: 4 ms of every 20 ms. The kernel takes them from whoever runs there,
# as a hypervisor does; unlike with a hypervisor, /proc/stat calls it no steal.
STEAL = """\
import os, sys, time
parent = os.getppid()
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
while os.getppid() == parent:
    end = time.perf_counter() + .004
    while time.perf_counter() < end: pass
    time.sleep(.016)
"""
CONDITIONS = ("quiet", "one neighbour", "two neighbours", "bursts", "steal")


def cores() -> list[int]:
    """The processors that this process may use."""
    return sorted(os.sched_getaffinity(0))


@contextmanager
def condition(name: str) -> Iterator[None]:
    """Make the machine like that for as long as the block lasts.

    Raises:
        PermissionError: for "steal", where this account may not have a real-time priority.
    """
    if name == "steal":
        policy, param = os.sched_getscheduler(0), os.sched_getparam(0)
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        os.sched_setscheduler(0, policy, param)
    programs = {
        "quiet": [],
        "one neighbour": [[NEIGHBOUR]],
        "two neighbours": [[NEIGHBOUR]] * max(2, len(cores())),
        "bursts": [[BURST]] * len(cores()),
        "steal": [[STEAL, str(core)] for core in cores()],
    }[name]
    with ExitStack() as stack:
        for words in programs:
            stack.enter_context(_running(words))
        yield


@contextmanager
def _running(words: list[str]) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", *words], env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    try:
        yield
    finally:
        process.kill()
        process.wait()
