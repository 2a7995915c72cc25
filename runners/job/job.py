"""Carries out one job on a device: which cases are visited when, each visit in a fresh process of a runner; PROTOCOL.md tells how.

A few modules, pushed as one file, for Python >= 3.9 with nothing but its standard library. What a visit is, the runner knows; this knows the order, the
bounds in time, when enough is known, and the journal.
"""

from __future__ import annotations

import contextlib
import errno
import json
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

import child
import governor
import lease
import precision

PROTOCOL = 4
# Two sessions are held in one process only if both fit in this share of the memory that is free.
MEMORY_SHARE = 0.8
# A worker that was killed is gone after this; if not, the kernel holds it, or a child of it holds its pipes.
KILL_SECONDS = 5.0
PROBE_SECONDS = 120.0


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
        if self.request.get("protocol") != PROTOCOL:
            raise SystemExit(
                "this job speaks protocol %d, but the request is in protocol %r: start the job with the version of the harness that wrote the request"
                % (PROTOCOL, self.request.get("protocol"))
            )
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
        self.late = False
        self.process: subprocess.Popen[str] | None = None
        self.begun = time.monotonic()
        self.journal: IO[str]
        self.lease: lease.Lease

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
            store = os.path.dirname(os.path.dirname(self.folder))
            self.lease = lease.Lease(store, os.path.basename(self.folder), PROTOCOL)
            holder = self.lease.take(
                self.request.get("who") or {}, self.request.get("wait", 0), self.stopping.is_set,
                lambda said: self.note({"event": "waiting", "holder": said}), self.request["longest"],
            )  # fmt: skip
            if holder is not None:
                self.note({"event": "busy", "holder": holder})
            else:
                self.begun = time.monotonic()
                if self.lease.lacking is not None:
                    self.note({"event": "lease", "reason": self.lease.lacking})
                with self.bounded(), governor.held(self.request.get("governor"), self.note):
                    self.note({"event": "begin", "protocol": PROTOCOL, "time": time.time(), "facts": self.facts()})
                    self.note({"event": "end", "reason": self.visit_all()})
        path = os.path.join(self.folder, "rc")
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write("0")
        os.rename(path + ".new", path)

    @contextlib.contextmanager
    def bounded(self) -> Any:  # noqa: ANN401 - an iterator
        """Stop by itself when the longest time that the job may take is over, whatever it does then."""

        def end() -> None:
            self.late = True
            self.stop()

        timer = threading.Timer(self.request["longest"], end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def facts(self) -> dict[str, Any]:
        """What the prober says of the device, right before measuring."""
        prober, checks = (os.path.join(self.blobs, self.request[key]) for key in ("prober", "checks"))
        kept = os.path.join(os.path.dirname(os.path.dirname(self.folder)), "imported")
        words = [sys.executable, *child.ISOLATED, prober, self.runner, checks, kept]
        try:
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=PROBE_SECONDS)
        except subprocess.CalledProcessError as error:
            raise SystemExit(
                "its prober failed: " + child.ending(error.returncode, error.stderr.decode(errors="replace"))
            ) from None
        facts = child.answer(done.stdout.decode(errors="replace"))
        if facts is None:
            raise SystemExit("its prober failed: " + child.unread(done.stdout.decode(errors="replace")))
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
        if self.stopping.is_set():
            return "max_time" if self.late else "stopped"
        return reason or "rounds"

    def is_over(self) -> bool:
        """Whether it must end now."""
        return self.stopping.is_set() or time.monotonic() - self.begun > self.request["max_time"]

    def evaluate(self, name: str) -> None:
        """Compute a case's outputs once."""
        path = os.path.join(self.folder, "outputs", name + ".npz")
        outcome = self.visit("evaluate", (name,), outputs=path, samples=self.request["samples"])
        if outcome and outcome["event"] != "evaluated":
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        elif outcome:
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
                self.ratios.setdefault(unit, []).append(precision.replicates(line))
            if unit not in self.apart or self.is_over():
                return
        levels = {}
        for name in self.chance.sample(unit, len(unit)):
            line = self.duet((name,), number, unit) if name in self.cases else None
            found = precision.replicates(line) if line is not None else []
            if found:
                levels[name] = statistics.median(found)
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
        reach = precision.half_width(groups, self.request["t"])
        if unit not in self.limits:
            return bool(reach <= self.request["precision"])
        # Of a pair the first is the baseline, so a slower candidate makes the ratio smaller.
        return bool(abs(-precision.spread(groups)[0] - self.limits[unit]) > reach)

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
        if outcome["event"] == "failed" and os.strerror(errno.ENOSPC) in outcome["message"]:
            # No case's fault.
            raise SystemExit(outcome["message"])
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
        path = os.pathsep.join(filter(None, [runtime, os.environ.get("QUANT_HARNESS_PATH")]))
        process = self.process = subprocess.Popen(
            [sys.executable, *child.ISOLATED, self.runner, "worker"], env=dict(os.environ, QUANT_HARNESS_PATH=path),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
            pass_fds=self.lease.descriptors(),
        )  # fmt: skip
        child.bound(process.pid, self.request.get("memory"))
        try:
            out, log = process.communicate(json.dumps(task), timeout=self.request["timeout"])
        except subprocess.TimeoutExpired:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=KILL_SECONDS)
            return {"event": "failed", "kind": "timeout", "message": "no result after %g s" % self.request["timeout"]}
        result = child.answer(out, "event") if process.returncode == 0 else None
        if result is None:
            words = child.unread(out) if out else child.ending(process.returncode, log)
            result = {"event": "failed", "kind": "crash", "message": words}
        if self.request.get("memory") and result.get("kind") in ("crash", "memory"):
            result["message"] += " (it may take %.1f MB: memory in devices.toml)" % (self.request["memory"] / 1e6)
        return result


if __name__ == "__main__":
    Job(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])).run()
