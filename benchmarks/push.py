"""Bringing files to a board over SSH: the harness's push against scp, rsync and fabric's put, in one run, against a real sshd here.

Three loads: one file of 100 MB, 200 files of 200 KB, and the matrix, about 40 variants of a ResNet-18. Three links: loopback, and a TCP
proxy with a round trip of 2 ms, and of 10 ms with 100 Mbit/s. Each way begins with connecting and ends when everything is on disk over
there, into an empty folder; ours also verifies every file's sha256 before it is in its place. The ways take turns in every round.

It needs OpenSSH's server (``make test`` installs it) and, for its rows, rsync; the models come from studies/published_claims/make.py.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from fabric import Connection  # noqa: E402

from harness import paths as places  # noqa: E402
from harness.devices.device import Device  # noqa: E402
from harness.devices.link import Link  # noqa: E402
from harness.quantize import build  # noqa: E402
from harness.study.study import load  # noqa: E402
from tests.sshd import SshServer  # noqa: E402

LARGE, FILES, SIZE = 100_000_000, 200, 200_000
LINKS = {"loopback": (0.0, 0.0), "2 ms": (0.001, 0.0), "10 ms, 100 Mbit/s": (0.005, 12.5e6)}
MATRIX = """\
name = "matrix"
[model]
path = "{model}"
calibration = "{data}"
[variants]
methods = ["fp32", "fp16", "dynamic", "static"]
per_channel = [false, true]
calibrations = ["MinMax", "Percentile", "Entropy"]
"""
Way = Callable[[SshServer, int, Sequence[Path]], int]


def ours(server: SshServer, port: int, paths: Sequence[Path]) -> int:
    """The harness's push; gives the bytes of files that it sent."""
    device = Device(
        name="board", host="127.0.0.1", port=port, user=server.user, identity_file=server.identity, host_key=server.host_key,
        python=server.python,
    )  # fmt: skip
    link = Link(device)
    try:
        return link.push({HASHES[path]: path for path in paths})
    finally:
        link.close()


def options(server: SshServer, port: int) -> list[str]:
    """What ssh and scp need to know."""
    known = server.folder / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {server.host_key}\n")
    return ["-i", str(server.identity), "-o", f"UserKnownHostsFile={known}", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"]


def scp(server: SshServer, port: int, paths: Sequence[Path], cipher: Sequence[str] = ()) -> int:
    """OpenSSH's copy."""
    words = [
        "scp",
        "-q",
        "-P",
        str(port),
        *options(server, port),
        *cipher,
        *map(str, paths),
        f"{server.user}@127.0.0.1:{server.folder}/copy/",
    ]
    subprocess.run(words, check=True, timeout=600)
    return sum(path.stat().st_size for path in paths)


def scp_gcm(server: SshServer, port: int, paths: Sequence[Path]) -> int:
    """The same with the faster cipher."""
    return scp(server, port, paths, ["-c", "aes128-gcm@openssh.com"])


def rsync(server: SshServer, port: int, paths: Sequence[Path]) -> int:
    """Rsync, whole files."""
    shell = " ".join(["ssh", "-p", str(port), *options(server, port)])
    words = ["rsync", "-aW", "-e", shell, *map(str, paths), f"{server.user}@127.0.0.1:{server.folder}/copy/"]
    subprocess.run(words, check=True, timeout=600)
    return sum(path.stat().st_size for path in paths)


def put(server: SshServer, port: int, paths: Sequence[Path]) -> int:
    """Fabric's put, as it comes."""
    with Connection(
        "127.0.0.1", user=server.user, port=port, connect_kwargs={"key_filename": str(server.identity)}
    ) as connection:
        for path in paths:
            connection.put(str(path), f"{server.folder}/copy/{path.name}")
    return sum(path.stat().st_size for path in paths)


WAYS: dict[str, Way] = {"harness": ours, "scp": scp, "scp, aes128-gcm": scp_gcm, "rsync -aW": rsync, "fabric put": put}
HASHES: dict[Path, str] = {}


def loads(folder: Path, *, small: bool) -> dict[str, list[Path]]:
    """Make the files."""
    chance = np.random.default_rng(5)
    large = folder / "large.bin"
    large.write_bytes(chance.bytes(LARGE // 20 if small else LARGE))
    many = [folder / f"many{number:03}.bin" for number in range(FILES // 10 if small else FILES)]
    for path in many:
        path.write_bytes(chance.bytes(SIZE))
    found = {"one file": [large], "many files": many, "matrix": matrix(folder, small=small)}
    for path in {path for paths in found.values() for path in paths}:
        with path.open("rb") as file:
            HASHES[path] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def matrix(folder: Path, *, small: bool) -> list[Path]:
    """The variants of a model; made once, then taken from the cache of variants."""
    name = "speaker" if small else "resnet"
    shapes = ROOT / "studies" / "published_claims"
    if not (shapes / "models" / f"{name}.onnx").exists():
        subprocess.run([sys.executable, str(shapes / "make.py")], check=True, stdout=subprocess.DEVNULL)
    study = folder / "study.toml"
    study.write_text(MATRIX.format(model=shapes / "models" / f"{name}.onnx", data=shapes / "models" / f"{name}.npz"))
    made = build.build(load(study), folder / "variants", cache=places.variants(), on_event=lambda _variant: None)
    return [variant.path for variant in made if variant.path is not None]


@contextlib.contextmanager
def linked(server: SshServer, delay: float, rate: float) -> Iterator[int]:
    """A port that leads to the server over a link of this kind; the proxy is a process of its own."""
    if not delay and not rate:
        yield server.port
        return
    words = [sys.executable, "-m", "tests.proxy", str(server.port), str(delay), str(rate)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def once(way: Way, server: SshServer, port: int, paths: Sequence[Path]) -> tuple[float, int]:
    """Copy into an empty place; gives seconds and bytes."""
    server.clear()
    copy = server.folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(mode=0o777)
    copy.chmod(0o777)
    os.sync()
    begun = time.monotonic()
    sent = way(server, port, paths)
    return time.monotonic() - begun, sent


def measure(files: Mapping[str, list[Path]], rounds: int, links: Sequence[str]) -> dict[str, Any]:
    """Every way for every load over every link: seconds of each round."""
    ways = {
        name: way
        for name, way in WAYS.items()
        if shutil.which(name.split(",")[0].split()[0]) or name in {"harness", "fabric put"}
    }
    seconds: dict[str, dict[str, dict[str, list[float]]]] = {}
    sent: dict[str, int] = {}
    again: dict[str, int] = {}
    with SshServer() as server:
        for link in links:
            with linked(server, *LINKS[link]) as port:
                for load_name, paths in files.items():
                    # A thin link is the same every time, and long.
                    for _ in range(1 if LINKS[link][1] else rounds):
                        for name, way in ways.items():
                            took, count = once(way, server, port, paths)
                            seconds.setdefault(link, {}).setdefault(load_name, {}).setdefault(name, []).append(took)
                            if way is ours:
                                sent[load_name] = count
                                again[load_name] = ours(server, port, paths)
    totals = {name: sum(path.stat().st_size for path in paths) for name, paths in files.items()}
    return {"seconds": seconds, "sent_bytes": sent, "second_push_bytes": again, "total_bytes": totals}


def told(found: Mapping[str, Any]) -> dict[str, Any]:
    """The figures; ratios above 1 are the harness's gain."""
    ratios = {
        link: {
            load_name: {
                name: round(statistics.median(a / b for a, b in zip(took, ways["harness"], strict=True)), 3)
                for name, took in ways.items()
                if name != "harness"
            }
            for load_name, ways in by_load.items()
        }
        for link, by_load in found["seconds"].items()
    }
    first = ratios[next(iter(ratios))]
    return {
        "large_file_vs_scp": first["one file"].get("scp"),
        "many_files_vs_scp": first["many files"].get("scp"),
        "matrix_vs_scp": first["matrix"].get("scp"),
        "matrix_bytes_saved": round(found["total_bytes"]["matrix"] / found["sent_bytes"]["matrix"], 3),
        "second_push_bytes": sum(found["second_push_bytes"].values()),
        "ratios": ratios,
        **found,
    }


def table(figures: Mapping[str, Any], files: Mapping[str, list[Path]]) -> str:
    """The same for people."""
    lines = []
    for link, by_load in figures["seconds"].items():
        for name, ways in by_load.items():
            total = figures["total_bytes"][name] / 1e6
            lines.append(f"{link}, {name} ({len(files[name])} files, {total:.0f} MB):")
            for way, took in ways.items():
                ratio = "" if way == "harness" else f"   the harness is {figures['ratios'][link][name][way]:.2f}× as fast"
                lines.append(f"  {way:<16} {statistics.median(took):8.2f} s{ratio}")
    lines.append(f"matrix: {figures['matrix_bytes_saved']:.2f}× fewer bytes than the sum of its files")
    lines.append(f"a second push of anything: {figures['second_push_bytes']} bytes of files")
    return "\n".join(lines)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--link", action="append", choices=list(LINKS), help="only this link; may be repeated")
    parser.add_argument("--small", action="store_true", help="a twentieth of it, to see that it works")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if reason := SshServer.lacking():
        sys.exit(f"push.py: {reason}")
    # Where the other account can read what it is sent by rsync's own shell; everything in it goes in the end.
    with tempfile.TemporaryDirectory() as folder:
        files = loads(Path(folder), small=arguments.small)
        figures = told(measure(files, arguments.rounds, arguments.link or list(LINKS)))
        print(json.dumps(figures, indent=1) if arguments.json else table(figures, files))


if __name__ == "__main__":
    main()
