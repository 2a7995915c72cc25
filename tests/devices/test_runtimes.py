"""The agent's runtimes as a process: what it unpacks, what it refuses, what it runs with."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.devices.test_agent import frame, run, store
from tests.wheelhouse import DIES, packed, wheel, wheelhouse


def receive(path: Path) -> dict[str, str]:
    data = path.read_bytes()
    run("receive", data=frame(data))
    return {"sha256": hashlib.sha256(data).hexdigest(), "name": path.name}


def unpack(*paths: Path, **options: Any) -> tuple[dict[str, Any], int]:
    request = {"wheels": [receive(path) for path in paths]}
    said, code = run("unpack", data=json.dumps(request).encode(), **options)
    return said[-1], code


def runtimes() -> list[str]:
    folder = store() / "runtimes"
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.exists() else []


def house(tmp_path: Path, version: str = "1.31.1") -> list[Path]:
    return sorted(wheelhouse(tmp_path / version, version).iterdir())


def test_wheels_become_a_folder_under_the_hash_of_their_hashes(tmp_path: Path) -> None:
    paths = house(tmp_path)
    said, code = unpack(*paths)
    hashes = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)
    runtime = hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    assert (said, code) == ({"event": "unpacked", "runtime": runtime}, 0)
    assert runtimes() == [runtime]
    found = store() / "runtimes" / runtime / "onnxruntime" / "__init__.py"
    assert "1.31.1" in found.read_text()
    assert stat.S_IMODE(found.stat().st_mode) == 0o600
    assert stat.S_IMODE((store() / "runtimes").stat().st_mode) == 0o700


def test_unpacking_again_changes_nothing_and_clears_what_was_left(tmp_path: Path) -> None:
    paths = house(tmp_path)
    runtime = unpack(*paths)[0]["runtime"]
    mark = store() / "runtimes" / runtime / "mark"
    mark.touch()
    left = store() / "runtimes" / ("0" * 64 + ".part")
    (left / "numpy").mkdir(parents=True)
    assert unpack(*reversed(paths))[0]["runtime"] == runtime
    assert mark.exists()
    assert runtimes() == [runtime]


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../outside/x.py",
        "numpy/../../x.py",
        "numpy//x.py",
        "numpy/./x.py",
        "sitecustomize.py",
        "x.pth",
        "numpy\\..\\x.py",
    ],
)
def test_a_member_that_leads_out_of_the_runtime_is_refused(tmp_path: Path, name: str) -> None:
    said, code = unpack(packed(tmp_path / "numpy-1-py3-none-any.whl", {"numpy/__init__.py": "", name: "x"}))
    assert code == 1
    assert said["message"].startswith("can't unpack numpy-1-py3-none-any.whl: it has a member that no wheel should have: ")
    assert runtimes() == []
    assert not (store() / "outside").exists()


@pytest.mark.parametrize("mode", [0o120777, 0o020666, 0o010644])
def test_links_and_devices_are_refused(tmp_path: Path, mode: int) -> None:
    said, code = unpack(packed(tmp_path / "numpy-1-py3-none-any.whl", {"numpy/link": "/etc/passwd"}, mode))
    assert code == 1
    assert "'numpy/link'" in said["message"]


def test_scripts_are_left_out_and_modes_are_plain(tmp_path: Path) -> None:
    files = {"numpy/": "", "numpy/tool": "", "numpy-1.data/scripts/f2py": ""}
    runtime = unpack(packed(tmp_path / "numpy-1-py3-none-any.whl", files, 0o106777))[0]["runtime"]
    folder = store() / "runtimes" / runtime
    assert [path.name for path in folder.iterdir()] == ["numpy"]
    assert stat.S_IMODE((folder / "numpy" / "tool").stat().st_mode) == 0o700


def test_a_wheel_that_claims_to_be_larger_than_a_runtime_may_be(tmp_path: Path) -> None:
    path = packed(tmp_path / "numpy-1-py3-none-any.whl", {"numpy/zeros": b"\0" * 1000})
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\x01\x02")
    data[place + 24 : place + 28] = struct.pack("<I", 0xF0000000)
    path.write_bytes(data)
    said, code = unpack(path)
    assert code == 1
    assert "3840 MB in 1 files are too much: there is room for " in said["message"]
    assert runtimes() == []


def test_a_wheel_that_is_larger_than_it_claims_is_not_installed(tmp_path: Path) -> None:
    path = packed(tmp_path / "numpy-1-py3-none-any.whl", {"numpy/zeros": b"\0" * 10_000_000})
    data = bytearray(path.read_bytes())
    for mark, at in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        place = data.rindex(mark)
        data[place + at : place + at + 4] = struct.pack("<I", 100)
    path.write_bytes(data)
    said, code = unpack(path)
    assert code == 1
    assert "Bad CRC-32" in said["message"]
    assert runtimes() == []


def test_what_is_no_wheel_at_all(tmp_path: Path) -> None:
    (tmp_path / "numpy.whl").write_bytes(b"nothing")
    assert unpack(tmp_path / "numpy.whl")[0]["message"] == "can't unpack numpy.whl: File is not a zip file"
    said, code = run("unpack", data=json.dumps({"wheels": [{"sha256": "0" * 64, "name": "x"}]}).encode())
    assert code == 1
    assert "No such file" in said[-1]["message"]
    assert run("unpack", data=b'{"wheels": [{"sha256": "../x", "name": "x"}]}')[1] == 1


def test_two_wheels_with_the_same_file_are_refused(tmp_path: Path) -> None:
    paths = [packed(tmp_path / f"{name}.whl", {"numpy/__init__.py": name}) for name in ("one", "two")]
    said, code = unpack(*paths)
    assert code == 1
    assert "File exists" in said["message"]
    assert runtimes() == []


SAYS = "import json, os, sys; sys.path += os.environ['QUANT_HARNESS_PATH'].split(':'); import numpy, onnxruntime; print(json.dumps({'event': 'facts', 'is': onnxruntime.__version__, 'env': os.environ['QUANT_HARNESS_RUNTIME']}))"


def runner(tmp_path: Path, code: str = SAYS) -> str:
    (tmp_path / "runner.py").write_text(code)
    return receive(tmp_path / "runner.py")["sha256"]


def test_a_runtime_that_was_adopted_is_what_the_runner_sees(tmp_path: Path) -> None:
    runtime = unpack(*house(tmp_path))[0]["runtime"]
    said, _ = run("adopt", runtime)
    assert said == [{"event": "adopted", "runtime": runtime, "onnxruntime": "1.31.1", "numpy": "2.4.6"}]
    (chosen,) = json.loads((store() / "runtimes" / "current").read_text()).values()
    assert chosen == {"runtime": runtime, "onnxruntime": "1.31.1", "numpy": "2.4.6"}
    said, _ = run("probe", runner(tmp_path))
    told = {"runtime": runtime[:12], "runtimes": ["1.31.1"], "holder": None}
    assert said == [{"event": "facts", "is": "1.31.1", "env": runtime[:12], **told}]


def test_the_last_one_adopted_counts(tmp_path: Path) -> None:
    for version in ("1.31.1", "1.30.0"):
        run("adopt", unpack(*house(tmp_path, version))[0]["runtime"])
    assert run("probe", runner(tmp_path))[0][0]["is"] == "1.30.0"
    assert len(runtimes()) == 2


@pytest.mark.parametrize("content", [None, "", "[]", "{", '{"x": 1}', "gone", "other"])
def test_without_a_valid_choice_the_python_is_on_its_own(tmp_path: Path, content: str | None) -> None:
    runtime = unpack(*house(tmp_path))[0]["runtime"]
    run("adopt", runtime)
    current = store() / "runtimes" / "current"
    if content == "gone":
        current.write_text(current.read_text().replace(runtime, "0" * 64))
    elif content == "other":
        current.write_text(current.read_text().replace("cpython", "pypy"))
    elif content is None:
        current.unlink()
    else:
        current.write_text(content)
    said, _ = run(
        "probe",
        runner(tmp_path, "import json, os; print(json.dumps({'event': 'facts', 'path': os.environ['QUANT_HARNESS_PATH']}))"),
    )
    (folder,) = [path for path in sys.path if path.endswith("site-packages")]
    told = {"runtime": None, "runtimes": ["1.31.1"], "holder": None}
    assert folder in said[0].pop("path").split(":")
    assert said == [{"event": "facts", **told}]
    assert run("adopt", runtime)[0][0]["event"] == "adopted"


def test_a_runtime_that_dies_at_import_is_not_adopted(tmp_path: Path) -> None:
    runtime = unpack(wheel(tmp_path, "numpy", "2.4.6"), wheel(tmp_path, "onnxruntime", "1.31.1", DIES))[0]["runtime"]
    said, code = run("adopt", runtime)
    assert (said, code) == ([{"event": "unusable", "message": "killed by SIGILL; last words: no message"}], 0)
    assert runtimes() == []
    assert run("adopt", runtime)[0][-1]["message"] == f"the runtime {runtime} is not in the store"


def test_an_import_that_fails_says_how(tmp_path: Path) -> None:
    runtime = unpack(wheel(tmp_path, "numpy", "2.4.6"), wheel(tmp_path, "onnxruntime", "1.31.1", "import nothing_there"))[0][
        "runtime"
    ]
    assert "nothing_there" in run("adopt", runtime)[0][0]["message"]


def test_a_job_runs_with_the_runtime(tmp_path: Path) -> None:
    run("adopt", unpack(*house(tmp_path))[0]["runtime"])
    job = runner(
        tmp_path,
        "import os, sys\nsys.path += os.environ['QUANT_HARNESS_PATH'].split(':')\nimport onnxruntime as o\nopen(os.path.join(sys.argv[1], 'rc'), 'w').write(o.__version__)",
    )
    run("start", "j", job, job, data=json.dumps({"protocol": 4, "prober": job, "cases": []}).encode())
    run("follow", "j", "0")
    assert (store() / "jobs" / "j" / "rc").read_text() == "1.31.1"


def test_a_runner_that_is_not_there_is_asked_for() -> None:
    assert run("probe", "0" * 64)[0] == [{"event": "missing", "sha256": ["0" * 64]}]


def test_a_probe_that_fails_says_how(tmp_path: Path) -> None:
    said, code = run("probe", runner(tmp_path, "raise SystemExit('no probe today')"))
    assert code == 1
    assert said[0]["message"] == "its prober failed: no probe today"


def test_a_slow_child_is_ended_and_the_link_hears_of_it_meanwhile(tmp_path: Path) -> None:
    from harness.devices import program

    text = program.agent("probe", {}).decode()
    assert "ALIVE_SECONDS = 5.0" in text
    quick = runner(
        tmp_path,
        text.replace("ALIVE_SECONDS = 5.0", "ALIVE_SECONDS = 0.1").replace("CHILD_SECONDS = 300.0", "CHILD_SECONDS = 0.5"),
    )
    slow = runner(tmp_path, "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])")
    said, code_of_it = run_as(store() / "blobs" / "sha256" / quick, "probe", slow)
    assert code_of_it == 1
    assert len([line for line in said if line["event"] == "alive"]) > 2
    assert said[-1]["message"] == "its prober failed: it took more than 0.5 s"


def run_as(agent: Path, *words: str) -> tuple[list[dict[str, Any]], int]:
    import subprocess
    import sys

    done = subprocess.run([sys.executable, str(agent), *words], input=b"", capture_output=True, timeout=60, check=False)
    return [json.loads(line) for line in done.stdout.splitlines()], done.returncode


def test_the_machine_says_what_decides_which_wheels_fit() -> None:
    ((said,), code) = run("machine")
    assert code == 0
    assert said["arch"] == os.uname().machine
    assert said["implementation"] == "cpython"
    assert len(said["python"]) == 3
    assert said["bits"] in {32, 64}
    assert said["abi"].startswith("cp3")
    assert said["libc"].startswith("glibc 2.") or said["libc"] == "musl"
