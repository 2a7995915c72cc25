"""The frequency governor, held for as long as a job runs."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Callable

import child

if TYPE_CHECKING:
    from protocol_journal import Governor, GovernorOutcome

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


@contextlib.contextmanager
def held(wanted: str | None, note: Callable[[Governor], None]) -> Any:  # noqa: ANN401 - an iterator
    """Hold the frequency governor that was asked for; another process puts the old one back even if this one is killed."""
    if not wanted:
        yield
        return
    root = os.environ.get("QUANT_HARNESS_CPUFREQ", "/sys/devices/system/cpu/cpufreq")
    policies = sorted(os.listdir(root)) if os.path.isdir(root) else []
    paths = [os.path.join(root, policy, "scaling_governor") for policy in policies if policy.startswith("policy")]
    # A session of its own: whoever kills this job's process group does not hit it.
    guardian = subprocess.Popen(
        [sys.executable, *child.ISOLATED, "-c", GUARDIAN, json.dumps([wanted, paths])],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert guardian.stdin is not None and guardian.stdout is not None  # noqa: S101, PT018 - for the type checker
    said: GovernorOutcome = json.loads(guardian.stdout.readline() or '{"reason": "the process that sets it ended"}')
    if not paths:
        said = {"reason": "this device's kernel offers no choice of governor"}
    note({**said, "event": "governor", "governor": wanted})
    try:
        yield
    finally:
        guardian.stdin.close()
        guardian.wait()
