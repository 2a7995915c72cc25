"""Many boards at once: the same study on one and on all of 64, each an OpenSSH server here, with a runner that sleeps.

Everything but the measuring itself is the real thing: ``harness run`` in a process of its own, SSH, push, start, follow, collect, tables. What is to
stay small is what all of them together take longer than one alone. A third run has all of them behind one server with the usual
MaxStartups (10:30:100). It needs OpenSSH's server (``make test`` installs it).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "benchmarks" / "fleet"
sys.path[:0] = [str(ROOT), str(HERE)]

from boards import Fleet, one_server, own_servers  # noqa: E402

from tests import sshd  # noqa: E402
from tests.sshd import SshServer  # noqa: E402

# Six rounds are the fewest that a study makes by itself; the digits study takes two to three minutes where it is known to 1 %.
DEVICES, SECONDS, ROUNDS = 64, 150.0, 6
# Of the study below: what is evaluated for one and a half seconds each, and how many pairs are visited in each round.
CASES, PAIRS = 10, 9
STUDY = """\
name = "fleet"
[model]
path = "{digits}/model.onnx"
dims = {{ batch = 1 }}
calibration = "{digits}/calibration.npz"
evaluation = "{digits}/evaluation.npz"
[measure]
rounds = {rounds}
precision = 0.0001
launch = {launch}
counting = false
max_time = "1h"
"""
END_SECONDS = 30


def busy_seconds() -> float:
    """CPU seconds that this machine's processors have spent on anything."""
    fields = list(map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]))
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) / os.sysconf("SC_CLK_TCK")


def measure(fleet: Fleet, folder: Path, launch: float, rounds: int) -> dict[str, Any]:
    """Run the study on all boards of a fleet, and read what it left."""
    study, registry, figures = folder / "study.toml", folder / "devices.toml", folder / "figures.json"
    study.write_text(STUDY.format(digits=ROOT / "studies" / "digits", rounds=rounds, launch=launch))
    registry.write_text("\n".join(fleet.entries))
    names = [f"board{number:02}" for number in range(len(fleet.entries))]
    results = Path(tempfile.mkdtemp(dir=folder))
    given = [word for name in names for word in ("--device", name)]
    words = ["run", str(study), "--registry", str(registry), "--results", str(results), "--json", *given]
    environment = {**os.environ, "QUANT_HARNESS_HOME": str(folder / "cache")}
    command = [sys.executable, str(HERE / "controller.py"), str(HERE / "runner.py"), str(figures), *words]
    before, begun = busy_seconds(), time.monotonic()
    with (results / "out").open("wb") as out, (results / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=out, stderr=log, env=environment, cwd=ROOT, start_new_session=True)
        try:
            code = process.wait()
        except BaseException:
            # It asks its boards to stop.
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
            process.kill()
            process.wait()
            raise
    wall, machine = time.monotonic() - begun, busy_seconds() - before
    if code:
        sys.exit(f"fleet: harness ended with {code}:\n{(results / 'log').read_text()[-3000:]}")
    found: dict[str, Any] = json.loads(figures.read_text())
    found["agents_cpu_seconds"] = fleet.cpu_seconds()
    boards = board_seconds(next(results.glob("*/*/journal.jsonl")))
    found |= {"devices": len(names), "wall_seconds": wall, "machine_cpu_seconds": machine, "turned_away": fleet.turned_away()}
    found |= {"board_seconds": statistics.median(boards), "slowest_board_seconds": max(boards)}
    shutil.rmtree(results)
    return found


def board_seconds(journal: Path) -> list[float]:
    """How long each board measured, by its own clock."""
    last: dict[str, float] = {}
    with journal.open() as lines:
        for line in lines:
            event = json.loads(line)
            if event["event"] == "round":
                last[event["device"]] = event["elapsed"]
    return list(last.values())


def compare(alone: dict[str, Any], many: dict[str, Any]) -> dict[str, float]:
    """What all boards take over what one alone takes."""
    others = many["devices"] - alone["devices"]
    return {
        "ratio": many["campaign_seconds"] / alone["campaign_seconds"],
        "ratio_with_report": many["wall_seconds"] / alone["wall_seconds"],
        "board_ratio": many["slowest_board_seconds"] / alone["board_seconds"],
        "cpu_ms_per_device": 1000 * (many["cpu_seconds"] - alone["cpu_seconds"]) / max(1, others),
        "campaign_cpu_ms_per_device": 1000 * (many["campaign_cpu_seconds"] - alone["campaign_cpu_seconds"]) / max(1, others),
        "mb_per_device": (many["peak_mb"] - alone["peak_mb"]) / max(1, others),
    }


def figures(devices: int, seconds: float) -> dict[str, Any]:
    """One alone, all at once, and all behind one server."""
    launch = max(0.01, (seconds - 1.5 * CASES) / (PAIRS * ROUNDS))
    with tempfile.TemporaryDirectory(prefix="fleet-") as place:
        folder = Path(place)
        with own_servers(1) as fleet:
            # The variants are made once, and kept.
            measure(fleet, folder, 0.01, 1)
        found = {}
        for name, make, count in (("alone", own_servers, 1), ("all", own_servers, devices), ("one_server", one_server, devices)):
            with make(count) as fleet:
                found[name] = measure(fleet, folder, launch, ROUNDS)
    compared = {name: compare(found["alone"], found[name]) for name in ("all", "one_server")}
    return {
        "devices": devices,
        "seconds": seconds,
        "alone_wall_seconds": found["alone"]["campaign_seconds"],
        "all_wall_seconds": found["all"]["campaign_seconds"],
        "ratio": compared["all"]["ratio"],
        "ratio_behind_one_server": compared["one_server"]["ratio"],
        "controller_cpu_seconds": found["all"]["cpu_seconds"],
        "controller_peak_mb": found["all"]["peak_mb"],
        "turned_away": found["all"]["turned_away"] + found["one_server"]["turned_away"],
        "connect_retries": found["all"]["connect_retries"] + found["one_server"]["connect_retries"],
        "processors": os.cpu_count(),
        "compared": compared,
        "runs": found,
    }


ROWS = {
    "devices": ("devices", "{:.0f}"),
    "connect to collect, s": ("campaign_seconds", "{:.1f}"),
    "  until all jobs have begun, s": ("starting_seconds", "{:.1f}"),
    "  after the last job's end, s": ("collecting_seconds", "{:.1f}"),
    "the whole command, s": ("wall_seconds", "{:.1f}"),
    "the boards' jobs by their clock, median, s": ("board_seconds", "{:.1f}"),
    "  the slowest, s": ("slowest_board_seconds", "{:.1f}"),
    "controller, CPU s": ("cpu_seconds", "{:.1f}"),
    "  connect to collect, CPU s": ("campaign_cpu_seconds", "{:.1f}"),
    "controller, peak MB": ("peak_mb", "{:.0f}"),
    "  connect to collect, peak MB": ("campaign_peak_mb", "{:.0f}"),
    "logins and agents on the boards, CPU s": ("agents_cpu_seconds", "{:.1f}"),
    "the whole machine, CPU s": ("machine_cpu_seconds", "{:.1f}"),
    "connections tried again": ("connect_retries", "{:.0f}"),
    "connections turned away": ("turned_away", "{:.0f}"),
}
COMPARED = {
    "× one alone": ("ratio", "{:.3f}"),
    "× one alone, the whole command": ("ratio_with_report", "{:.3f}"),
    "× one alone, the slowest board's job": ("board_ratio", "{:.3f}"),
    "controller, CPU ms per device": ("cpu_ms_per_device", "{:.0f}"),
    "controller, MB per device": ("mb_per_device", "{:.1f}"),
}


def table(found: dict[str, Any]) -> str:
    """The figures for people."""
    runs, compared = found["runs"], found["compared"]
    lines = [f"{'':44} {'alone':>10} {'all':>10} {'one server':>10}"]
    for title, (key, form) in ROWS.items():
        lines.append(f"{title:44} " + " ".join(f"{form.format(run[key]):>10}" for run in runs.values()))
    for title, (key, form) in COMPARED.items():
        lines.append(f"{title:44} {'':>10} " + " ".join(f"{form.format(each[key]):>10}" for each in compared.values()))
    return "\n".join([*lines, f"{found['processors']} processors here carry the controller and all boards"])


def interrupted(_signal: int, _frame: object) -> NoReturn:
    """End what was started first, whatever else is asked meanwhile."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", type=int, default=DEVICES)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that one board's study takes, more than 15")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if reason := SshServer.lacking():
        sys.exit(f"fleet: {reason}")
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, interrupted)
    # Each connection that is turned away gets a line.
    sshd.CONFIG += "LogLevel VERBOSE\n"
    try:
        found = figures(options.devices, options.seconds)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    print(json.dumps(found) if options.json else table(found))


if __name__ == "__main__":
    main()
