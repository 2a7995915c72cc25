"""Where this Python's installed packages are, found without running any file of the account.

Python itself would import sitecustomize and usercustomize and run the ``import`` lines of .pth files when it starts. Everything that the harness
starts on a device is therefore started with ``-I -S``, and what needs packages is told where they are: PROTOCOL.md.
"""

from __future__ import annotations

import glob
import os
import sys

ISOLATED = ("-I", "-S")
# The variables of the account that would change what is loaded or what is measured. Loader paths (LD_LIBRARY_PATH) stay: a Python may need them.
CLEARED = (
    "PYTHON", "OMP_", "GOMP_", "KMP_", "OPENBLAS_", "GOTO_", "MKL_", "BLIS_", "NPY_", "NUMPY_", "NUMEXPR_", "ORT_", "ONEDNN_", "DNNL_",
    "MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD", "LD_AUDIT", "LD_DEBUG", "LD_PROFILE", "LD_BIND_NOW",
)  # fmt: skip


def environment(first: str | None = None) -> dict[str, str]:
    """The variables for a child of ours.

    Args:
        first: a folder of packages that comes before those of this Python.
    """
    found = {name: value for name, value in os.environ.items() if not name.startswith(CLEARED)}
    # onnxruntime >= 1.29 sends telemetry from a thread of its own.
    found["ORT_DISABLE_TELEMETRY"] = "1"
    given = os.environ.get("QUANT_HARNESS_PATH")
    folders = given.split(os.pathsep) if given else installed()
    found["QUANT_HARNESS_PATH"] = os.pathsep.join(filter(None, [first, *folders]))
    return found


def installed() -> list[str]:
    """The folders of installed packages, in the order in which Python itself would search them.

    Those of a virtual environment, the user's own (pip install --user) and the system's, each followed by the folders that its .pth files name; lines
    of .pth files that are code are not run.
    """
    found: list[str] = []
    for folder in site_folders():
        for path in (folder, *named(folder)):
            if path not in found and os.path.exists(path):
                found.append(path)
    return found


def site_folders() -> list[str]:
    """The site-packages and dist-packages folders of this Python: what site.main() adds (CPython, Lib/site.py)."""
    try:
        import site
    except ImportError:
        return []
    environment_folder, takes_system = virtual_environment()
    prefixes = list(dict.fromkeys((sys.base_prefix, sys.base_exec_prefix)))
    was, was_exec = sys.prefix, sys.exec_prefix
    try:
        found = []
        if environment_folder is not None:
            # Debian's getsitepackages looks at it: a virtual environment has site-packages, the system dist-packages.
            sys.prefix = sys.exec_prefix = environment_folder
            found = site.getsitepackages([environment_folder])
        if takes_system:
            os.environ.pop("PYTHONUSERBASE", None)
            found += [*filter(None, [site.getusersitepackages()]), *site.getsitepackages(prefixes)]
    finally:
        sys.prefix, sys.exec_prefix = was, was_exec
    return found


def virtual_environment() -> tuple[str | None, bool]:
    """The folder of the virtual environment that this Python belongs to, and whether the system's packages count too (PEP 405)."""
    beside = os.path.dirname(os.path.abspath(sys.executable))
    above = os.path.dirname(beside)
    for path in (os.path.join(beside, "pyvenv.cfg"), os.path.join(above, "pyvenv.cfg")):
        if os.path.isfile(path):
            with open(path, encoding="utf-8", errors="replace") as file:
                settings = {line.partition("=")[0].strip().lower(): line.partition("=")[2].strip().lower() for line in file}
            return above, settings.get("include-system-site-packages", "true") == "true"
    return None, True


def named(folder: str) -> list[str]:
    """The folders that .pth files name: how a distribution, or 'pip install --editable', adds one."""
    found = []
    for path in sorted(glob.glob(os.path.join(glob.escape(folder), "*.pth"))):
        try:
            with open(path, encoding="utf-8-sig", errors="replace") as file:
                lines = file.read(1 << 20).splitlines()
        except OSError:
            continue
        paths = [line.rstrip() for line in lines if line.strip() and not line.startswith(("#", "import ", "import\t"))]
        found += [os.path.join(folder, path) for path in paths]
    return found
