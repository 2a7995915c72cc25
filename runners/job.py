"""Carries out one job on a device: which cases are visited when, each visit in a fresh process of a runner; PROTOCOL.md tells how.

One file for Python >= 3.9 with nothing but its standard library. What a visit is, the runner knows; this knows the order, the
bounds in time, when enough is known, and the journal.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from typing import IO, Any

PROTOCOL = 2
MESSAGE_LIMIT = 2000
# Two sessions are held in one process only if both fit in this share of the memory that is free.
MEMORY_SHARE = 0.8
# With fewer processes there is no interval.
LEAST = 3
# Sets the governor, and puts the old one back when its standard input ends, however the job did.
GUARDIAN = """\
import json, sys
wanted, paths = json.loads(sys.argv[1])
old = {}
try:
    for path in paths:
        with open(path) as file:
            old[path] = file.read().strip()
        with open(path, "w") as file:
            file.write(wanted)
    print(json.dumps({"was": sorted(set(old.values()))}), flush=True)
except OSError as error:
    for path, value in old.items():
        with open(path, "w") as file:
            file.write(value)
    old = {}
    print(json.dumps({"reason": "%s: %s" % (error.filename or path, error.strerror)}), flush=True)
sys.stdin.read()
for path, value in old.items():
    with open(path, "w") as file:
        file.write(value)
"""


def ending(code: int, log: str) -> str:
    """Words for how a process ended."""
    last = [line for line in log.strip().splitlines() if line.strip()][-1:] or ["no message"]
    if code < 0:
        return "killed by %s; last words: %s" % (signal.Signals(-code).name, last[0][:MESSAGE_LIMIT])
    return last[0][:MESSAGE_LIMIT]


def replicates(line: dict[str, Any]) -> list[float]:
    """One number for each rebuild of a visit: the median over pairs of log(first median / second), or of log(median) of a case alone."""
    found = []
    for rebuild in line["rebuilds"]:
        pairs = [pair["medians"] for pair in rebuild["pairs"] if not pair["disturbed"]]
        pairs = pairs or [pair["medians"] for pair in rebuild["pairs"]]
        if all(min(medians) > 0 for medians in pairs):
            found.append(statistics.median(math.log(medians[0] / (medians[1] if len(medians) > 1 else 1)) for medians in pairs))
    return found


def half_width(groups: list[list[float]], quantiles: list[float]) -> float:
    """Half the interval of the mean, over all replicates or over the processes' means, whichever standard error is larger."""
    means = [statistics.fmean(group) for group in groups if group]
    flat = [value for group in groups for value in group]
    if len(means) < LEAST:
        return math.inf
    error, count = max((statistics.stdev(values) / math.sqrt(len(values)), -len(values)) for values in (flat, means))
    return quantiles[min(-count - 1, len(quantiles)) - 1] * error


class Job:
    """One request being carried out in the job's folder, and its journal.

    SIGTERM asks it to stop: the visit that is under way is ended and not recorded.
    """

    def __init__(self, folder: str, runner: str) -> None:
        self.folder = folder
        self.runner = runner
        self.blobs = os.path.join(os.path.dirname(os.path.dirname(folder)), "blobs", "sha256")
        with open(os.path.join(folder, "request.json"), encoding="utf-8") as file:
            self.request = json.load(file)
        self.cases = {case["id"]: self.located(case) for case in self.request["cases"]}
        self.units: list[tuple[str, ...]] = [tuple(unit) for unit in self.request["units"]]
        self.apart: set[tuple[str, ...]] = set()
        self.ratios: dict[tuple[str, ...], list[list[float]]] = {}
        self.counts: dict[str, list[int]] = {}
        self.peaks: dict[str, int] = {}
        self.lost: set[tuple[str, str]] = set()
        self.limits = {tuple(pair): limit for pair, limit in self.request.get("limits") or []}
        self.first = self.request.get("first_round", 0)
        self.chance = random.Random(self.request["seed"])  # noqa: S311 - an order, no secret
        self.stopping = threading.Event()
        self.process: subprocess.Popen[str] | None = None
        self.begun = time.monotonic()
        self.journal: IO[str]
        self.lease: IO[str]

    def located(self, case: dict[str, Any]) -> dict[str, Any]:
        """A case with its files' and its runtime's places in the store."""
        found = dict(case, **{key: os.path.join(self.blobs, case[key]) for key in ("model", "inputs")})
        if case.get("runtime"):
            found["runtime"] = os.path.join(os.path.dirname(os.path.dirname(self.folder)), "runtimes", case["runtime"])
        return found

    def run(self) -> None:
        """Evaluate every case, then measure round after round; write how it ended to ``rc``."""
        signal.signal(signal.SIGTERM, self.stop)
        with open(os.path.join(self.folder, "journal.jsonl"), "a", encoding="utf-8") as self.journal:
            holder = self.hold()
            if holder is not None:
                self.note({"event": "busy", "holder": holder})
            else:
                with self.governor():
                    self.note({"event": "begin", "protocol": PROTOCOL, "time": time.time(), "facts": self.facts()})
                    self.note({"event": "end", "reason": self.visit_all()})
        path = os.path.join(self.folder, "rc")
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write("0")
        os.rename(path + ".new", path)

    def hold(self) -> str | None:
        """Take the device, for one job at a time can be measured; the kernel frees it when this process and its workers have ended.

        Returns:
            Who holds it, if another job does.
        """
        self.lease = open(os.path.join(os.path.dirname(os.path.dirname(self.folder)), "lease"), "a+", encoding="utf-8")
        try:
            fcntl.flock(self.lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.lease.seek(0)
            return self.lease.read(MESSAGE_LIMIT)
        self.lease.truncate(0)
        mine = dict(self.request.get("who") or {}, job=os.path.basename(self.folder), since=time.time())
        self.lease.write(json.dumps(mine))
        self.lease.flush()
        return None

    @contextlib.contextmanager
    def governor(self) -> Any:  # noqa: ANN401 - an iterator
        """Hold the frequency governor that was asked for; another process puts the old one back even if this one is killed."""
        wanted = self.request.get("governor")
        if not wanted:
            yield
            return
        root = os.environ.get("QUANT_HARNESS_CPUFREQ", "/sys/devices/system/cpu/cpufreq")
        policies = sorted(os.listdir(root)) if os.path.isdir(root) else []
        paths = [os.path.join(root, policy, "scaling_governor") for policy in policies if policy.startswith("policy")]
        # A session of its own: whoever kills this job's process group does not hit it.
        guardian = subprocess.Popen(
            [sys.executable, "-c", GUARDIAN, json.dumps([wanted, paths])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert guardian.stdin is not None and guardian.stdout is not None  # noqa: S101, PT018 - for the type checker
        said = json.loads(guardian.stdout.readline() or '{"reason": "its guardian died"}')
        if not paths:
            said = {"reason": "this device's kernel offers no choice of governor"}
        self.note(dict(said, event="governor", governor=wanted))
        try:
            yield
        finally:
            guardian.stdin.close()
            guardian.wait()

    def facts(self) -> dict[str, Any]:
        """What the prober says of the device, right before measuring."""
        prober, checks = (os.path.join(self.blobs, self.request[key]) for key in ("prober", "checks"))
        words = [sys.executable, prober, self.runner, checks]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=True)
        facts: dict[str, Any] = json.loads(done.stdout)
        facts["runtime"] = os.environ.get("QUANT_HARNESS_RUNTIME")
        return facts

    def stop(self, *_signal: object) -> None:
        """Remember to stop, and end the worker."""
        self.stopping.set()
        if self.process is not None:
            self.process.kill()

    def note(self, line: dict[str, Any]) -> None:
        """Append one line to the journal."""
        self.journal.write(json.dumps(line) + "\n")
        self.journal.flush()

    def visit_all(self) -> str:
        """Visit the cases in the order asked; returns why it ended."""
        for name in list(self.cases):
            self.evaluate(name)
        self.part()
        reason = self.measure() or self.count() or self.crowd()
        return "stopped" if self.stopping.is_set() else reason or "rounds"

    def is_over(self) -> bool:
        """Whether it must end now."""
        return self.stopping.is_set() or time.monotonic() - self.begun > self.request["max_time"]

    def evaluate(self, name: str) -> None:
        """Compute a case's outputs once."""
        path = os.path.join(self.folder, "outputs", name + ".npz")
        outcome = self.visit("evaluate", (name,), outputs=path, samples=self.request["samples"])
        if outcome and outcome["event"] == "evaluated":
            self.peaks[name] = outcome.get("peak_bytes") or 0
            self.note(dict(outcome, case=name))

    def part(self) -> None:
        """Keep apart the pairs of two runtimes, and those that don't fit in memory together."""
        for unit in self.units:
            if len({self.cases[name].get("runtime") for name in unit}) > 1:
                self.separate(unit, "two versions of onnxruntime can't be in one process")
        try:
            with open("/proc/meminfo", encoding="utf-8") as file:
                free = int(re.findall(r"^MemAvailable:\s+(\d+) kB", file.read(), re.MULTILINE)[0]) * 1024
        except (OSError, IndexError):
            return
        for unit in self.units:
            needed = sum(self.peaks.get(name, 0) for name in unit)
            if len(unit) > 1 and unit not in self.apart and needed > MEMORY_SHARE * free:
                self.separate(unit, "together they need %.0f MB, and %.0f MB are free" % (needed / 1e6, free / 1e6))

    def separate(self, unit: tuple[str, ...], reason: str) -> None:
        """From now on, measure a pair in processes that alternate."""
        self.apart.add(unit)
        self.ratios.pop(unit, None)
        self.note({"event": "apart", "cases": list(unit), "reason": reason})

    def measure(self) -> str | None:
        """Round after round, until every pair is known well enough; returns why it ended early."""
        for number in range(self.request["rounds"] if self.units else 0):
            order = [unit for unit in self.units if not self.is_settled(unit)]
            if not order:
                return None
            for unit in self.chance.sample(order, len(order)):
                if self.is_over():
                    return "max_time"
                if unit in self.units:
                    self.measure_unit(unit, self.first + number)
            if self.stopping.is_set():
                return "stopped"
            self.note({"event": "round", "round": self.first + number, "elapsed": round(time.monotonic() - self.begun, 3)})
        return None

    def measure_unit(self, unit: tuple[str, ...], number: int) -> None:
        """One visit of a pair, or of each of its cases in turn, or of a case alone."""
        if unit not in self.apart:
            line = self.duet(unit, number, None)
            if line is not None:
                self.ratios.setdefault(unit, []).append(replicates(line))
            if unit not in self.apart or self.is_over():
                return
        levels = {}
        for name in self.chance.sample(unit, len(unit)):
            line = self.duet((name,), number, unit) if name in self.cases else None
            found = replicates(line) if line is not None else []
            if found:
                levels[name] = statistics.fmean(found)
        if len(levels) == len(unit):
            self.ratios.setdefault(unit, []).append([levels[unit[0]] - levels[unit[1]]])

    def duet(self, names: tuple[str, ...], number: int, apart: tuple[str, ...] | None) -> dict[str, Any] | None:
        """Measure two cases in one process, or one alone; a pair whose process dies is kept apart from then on."""
        keys = ("rebuilds", "pairs", "block", "warmup", "launch", "turns")
        options = {key: self.request[key] for key in keys}
        outcome = self.visit("duet", names, number, seed=self.chance.getrandbits(32), **options)
        if outcome is None or outcome["event"] != "duet":
            return None
        self.note(dict(outcome, round=number, apart=apart))
        return outcome

    def is_settled(self, unit: tuple[str, ...]) -> bool:
        """Whether a pair's ratio, or a level, is known as closely as asked: to a precision, or on which side of a limit it lies."""
        groups = self.ratios.get(unit, [])
        if len(groups) < min(self.request["least_rounds"], self.request["rounds"]):
            return False
        reach = half_width(groups, self.request["t"])
        if unit not in self.limits:
            return bool(reach <= self.request["precision"])
        flat = [value for group in groups for value in group]
        # Of a pair the first is the baseline, so a slower candidate makes the ratio smaller.
        return bool(flat) and abs(-statistics.fmean(flat) - self.limits[unit]) > reach

    def count(self) -> str | None:
        """Count instructions, each time in a process of its own, until two agree."""
        unsettled = list(self.cases) if self.request.get("counter") else []
        for number in range(self.request["count_rounds"]):
            for name in unsettled:
                if self.is_over():
                    return "max_time"
                options = {"counter": self.request["counter"], "count_iterations": self.request["count_iterations"]}
                outcome = self.visit("count", (name,), self.first + number, **options)
                if outcome and outcome["event"] == "counted":
                    self.counts.setdefault(name, []).append(min(outcome["instructions"]))
                    self.note(dict(outcome, case=name, round=self.first + number))
            unsettled = [name for name in unsettled if ("count", name) not in self.lost and not self.agrees(name)]
        return None

    def agrees(self, name: str) -> bool:
        """Whether a case's counts in at least two processes agree as closely as asked."""
        found = self.counts.get(name, [])
        return len(found) > 1 and max(found) - min(found) <= self.request["count_spread"] * min(found)

    def crowd(self) -> str | None:
        """Measure the throughput of several sessions at once."""
        visits = [(name, sessions) for sessions in self.request["throughput"] for name in self.cases]
        for number in range(self.request["throughput_rounds"] if visits else 0):
            for name, sessions in self.chance.sample(visits, len(visits)):
                if self.is_over():
                    return "max_time"
                if ("throughput", name) in self.lost:
                    continue
                options = {key: self.request[key] for key in ("warmup", "throughput_seconds")}
                outcome = self.visit("throughput", (name,), number, sessions=sessions, **options)
                if outcome and outcome["event"] == "throughput":
                    self.note(dict(outcome, case=name, round=number))
        return None

    def visit(self, what: str, names: tuple[str, ...], number: int | None = None, **options: object) -> dict[str, Any] | None:
        """Run one task; a case that fails is noted and not visited again. None when it was stopped."""
        if self.stopping.is_set():
            return None
        task = dict(options, task=what, cases=[self.cases[name] for name in names], cpus=self.request.get("cpus"))
        task["checks"] = os.path.join(self.blobs, self.request["checks"])
        outcome = self.in_worker(task)
        if self.stopping.is_set():
            return None
        if outcome["event"] == "failed" and what in ("count", "throughput"):
            # The case can be timed all the same.
            self.lost.add((what, names[0]))
            self.note(dict(outcome, event="trouble", case=names[0], what=what))
        elif outcome["event"] == "failed":
            if len(names) > 1 and (outcome["kind"] in ("crash", "timeout", "memory") or not outcome.get("case")):
                # Each of them ran alone: it may be too much for one process.
                self.separate(names, "%s: %s" % (outcome["kind"], outcome["message"]))
            else:
                self.drop(outcome.get("case") or names[0])
                self.note(dict(outcome, case=outcome.get("case") or names[0], round=number))
        return outcome

    def drop(self, name: str) -> None:
        """Give a case up; those that were paired with it alone go on alone."""
        del self.cases[name]
        orphans = {other for unit in self.units if name in unit for other in unit if other != name}
        self.units = [unit for unit in self.units if name not in unit]
        paired = {other for unit in self.units for other in unit}
        self.units += [(other,) for other in sorted(orphans - paired) if other in self.cases]

    def in_worker(self, task: dict[str, Any]) -> dict[str, Any]:
        """Run one task in a fresh process, bounded in time; how it ends is the outcome."""
        runtime = task["cases"][0].get("runtime")
        path = os.pathsep.join(filter(None, [runtime, os.environ.get("PYTHONPATH")]))
        process = self.process = subprocess.Popen(
            [sys.executable, self.runner, "worker"], env=dict(os.environ, PYTHONPATH=path) if runtime else None,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
            pass_fds=[self.lease.fileno()],
        )  # fmt: skip
        try:
            out, log = process.communicate(json.dumps(task), timeout=self.request["timeout"])
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return {"event": "failed", "kind": "timeout", "message": "no result after %g s" % self.request["timeout"]}
        if process.returncode == 0 and out.endswith("\n"):
            result: dict[str, Any] = json.loads(out)
            return result
        return {"event": "failed", "kind": "crash", "message": ending(process.returncode, log)}


if __name__ == "__main__":
    Job(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])).run()
