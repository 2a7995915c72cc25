"""What the agent deletes when room is needed, and what it keeps."""

from __future__ import annotations

import hashlib
import json
import os

from tests.devices.test_agent import frame, run, store

OLD, NEW = b"x" * 5000, b"y" * 5000


def blob(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_which_runtime_each_python_uses_is_kept_however_long_it_was_not_changed() -> None:
    run("receive", data=frame(OLD))
    (store() / "runtimes").mkdir()
    current = store() / "runtimes" / "current"
    current.write_text(json.dumps({"cpython-311-x86_64 /usr/bin/python3": {"runtime": "0" * 64}}))
    os.utime(current, (1, 1))
    offer, *rest = frame(NEW).split(b"\n", 1)
    said, code = run("receive", data=b"\n".join([json.dumps({**json.loads(offer), "quota": 6000}).encode(), *rest]))
    assert (said[-1], code) == ({"event": "stored", "sha256": blob(NEW)}, 0)
    assert [path.name for path in (store() / "blobs" / "sha256").iterdir()] == [blob(NEW)]
    assert current.exists()
