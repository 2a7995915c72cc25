"""Files of a board's account: none of its modules, .pth files, customizations or variables takes part in what the harness runs there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.devices import facts as device_facts
from harness.devices import registry
from harness.devices.link import Link
from harness.paths import RUNNERS
from tests import account
from tests.sshd import BASH, SshServer

if TYPE_CHECKING:
    from tests.cli.conftest import Command

pytestmark = pytest.mark.ssh

# Says that it was run, and says so on both streams, as text and as JSON.
TOLD = (
    "import os, sys\nopen({seen!r}, 'a').write('x')\nos.write(1, b'hello from the account\\n[1]\\n')\nos.write(2, b'hello\\n')\n"
)
MODULES = (
    "sitecustomize",
    "usercustomize",
    "json",
    "store",
    "packages",
    "runtimes",
    "numpy",
    "onnxruntime",
    "governor",
    "contextlib",
)
RUN = ("--device", "board", "--variant", "fp16", "--rounds", "1", "--json")


def modules(told: str) -> dict[str, str]:
    """A module of each name that could come in the way of ours."""
    return {f"{name}.py": told for name in MODULES} | {"x.pth": f"import os; exec({told!r})\n"}


def probed(server: SshServer, **keys: str) -> device_facts.Facts:
    Path("devices.toml").write_text(server.entry("board", **keys))
    link = Link(registry.load().get("board"))
    try:
        return device_facts.check(link.probe(), "board")
    finally:
        link.close()


def bashrc(home: Path) -> str:
    variables = {
        "PYTHONPATH": home / "evil", "PYTHONSTARTUP": home / "evil" / "json.py", "PYTHONHOME": "/none", "PYTHONEXECUTABLE": "/none", "__PYVENV_LAUNCHER__": "/none", "PYTHONINSPECT": "1",
        "OMP_NUM_THREADS": "1", "LD_PRELOAD": "/none.so", "MALLOC_ARENA_MAX": "1", "ORT_TENSORRT_FP16_ENABLE": "1", "QUANT_HARNESS_PATH": home,
    }  # fmt: skip
    return "".join(f"export {name}='{value}'\n" for name, value in variables.items()) + f"cd {home}/evil\n"


@pytest.fixture
def evil() -> object:
    """A server whose account does all it can: modules in its working folder and PYTHONPATH, customizations, .pth files, variables."""
    with account.server(BASH) as made:
        home, seen = made.folder / "home", str(made.folder / "seen")
        told = TOLD.format(seen=seen)
        user = f".local/lib/python{version(made.python)}/site-packages"
        files = {f"evil/{name}": text for name, text in modules(told).items()}
        # What pip installs for the user counts, what Python would run at its start does not.
        files |= {f"{user}/{name}": told for name in ("sitecustomize.py", "usercustomize.py", "json.py", "contextlib.py")}
        files |= {f"{user}/x.pth": f"import os; exec({told!r})\n"}
        account.write(home, files | {".bashrc": bashrc(home)})
        python = account.venv(
            made.folder / "venv", made.python, {"sitecustomize.py": told, "z.pth": f"import os; exec({told!r})\n"}
        )
        yield made, python


def version(python: str) -> str:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_the_files_are_what_python_itself_would_run(evil: tuple[SshServer, str]) -> None:
    server, python = evil
    env = {"HOME": str(server.folder / "home"), "PYTHONPATH": str(server.folder / "home" / "evil")}
    done = subprocess.run([python, "-c", "import json"], capture_output=True, text=True, env=env, check=False)
    assert "hello from the account" in done.stdout
    (server.folder / "seen").unlink()


@pytest.mark.faults
def test_no_file_of_the_account_takes_part_in_a_run(harness: Command, study: Path, evil: tuple[SshServer, str]) -> None:
    server, python = evil
    Path("devices.toml").write_text(server.entry("board", python=python))
    done = harness("run", str(study), *RUN)
    assert done.code == 0, done.err
    assert not (server.folder / "seen").exists()
    (job,) = (server.store / "jobs").iterdir()
    begun = next(json.loads(line) for line in (job / "journal.jsonl").read_text().splitlines() if '"begin"' in line)
    assert begun["facts"]["onnxruntime"]["version"]


def test_what_pip_installed_for_the_user_is_found(evil: tuple[SshServer, str]) -> None:
    server, _ = evil
    base = subprocess.run([server.python, "-c", "import sys; print(sys.base_prefix)"], capture_output=True, text=True, check=True)
    bare = f"{base.stdout.strip()}/bin/python{version(server.python)}"
    user = server.folder / "home" / ".local" / "lib" / f"python{version(server.python)}" / "site-packages"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.run([server.python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    for path in Path(packages).iterdir():
        if path.name.startswith(("numpy", "onnxruntime")):
            (user / path.name).symlink_to(path)
    facts = probed(server, python=bare)
    assert facts.onnxruntime.version is not None
    assert not (server.folder / "seen").exists()


def test_folders_are_those_that_python_itself_searches(tmp_path: Path) -> None:
    python = account.venv(tmp_path / "venv", sys.executable)
    agent = (
        f"import sys; sys.path.insert(0, {str(RUNNERS / 'agent')!r}); import packages; print(*packages.installed(), sep='\\n')"
    )
    done = subprocess.run([python, "-I", "-S", "-c", agent], capture_output=True, text=True, check=True)
    own = subprocess.run(
        [python, "-c", "import sys; print(*sys.path[1:], sep='\\n')"], capture_output=True, text=True, check=True
    )
    found, searched = done.stdout.split(), own.stdout.split()
    assert found == [path for path in searched if path in found]
    assert found == [path for path in searched if path.endswith("-packages")]


def test_this_machine_is_measured_with_the_packages_that_the_harness_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = tmp_path / "seen"
    account.write(tmp_path / "evil", modules(TOLD.format(seen=str(seen))) | {"place": ""})
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "evil"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path / "evil")
    link = Link(registry.load().get("local"))
    facts = device_facts.check(link.probe(), "local")
    link.close()
    assert facts.onnxruntime.version is not None
    assert not seen.exists()


def test_variables_that_change_what_is_loaded_or_measured_are_cleared() -> None:
    cleared = {
        "PYTHONPATH": "/x",
        "OMP_NUM_THREADS": "1",
        "ORT_X": "1",
        "LD_PRELOAD": "",
        "MALLOC_ARENA_MAX": "1",
        "GLIBC_TUNABLES": "x",
    }
    kept = {"LD_LIBRARY_PATH": "/x", "PATH": "/x", "HOME": "/x", "CUDA_VISIBLE_DEVICES": "0", "LC_ALL": "C.UTF-8"}
    code = f"import sys; sys.path.insert(0, {str(RUNNERS / 'agent')!r}); import json, packages; print(json.dumps(packages.environment('/first')))"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], env=cleared | kept, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found.pop("QUANT_HARNESS_PATH").split(os.pathsep)[0] == "/first"
    assert found == kept | {"ORT_DISABLE_TELEMETRY": "1"}
