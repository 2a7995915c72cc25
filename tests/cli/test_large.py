"""Models above 2 GB through the whole house; but for the last test, tiny ones that count as such."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from harness.errors import ResultsError
from harness.quantize import prepare
from harness.quantize.model import storage
from harness.quantize.recipe import Variant
from harness.records import baseline_file
from harness.records.baseline import Baseline
from tests.cli.conftest import Command
from tests.models import conv_chain

GB = 10**9
NEEDED = 12 * GB  # bytes of memory, and of disk: the tools hold the model several times
WIDTH, LAYERS = 8192, 8


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be quantized is large, and what came of it is not."""
    monkeypatch.setattr(storage, "LARGE", 60_000)
    for module in (storage, prepare):
        monkeypatch.setattr(module, "LEAST_TENSOR", 256)


@pytest.fixture
def chain(small_limit: None) -> Path:  # noqa: ARG001 - for its effect
    """A study of a model of 74 kB with external data in two files, which counts as large."""
    folder = Path("chain")
    folder.mkdir()
    model = onnx.load(conv_chain(folder / "m.onnx", 8))
    onnx.save(model, folder / "m.onnx", save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=0)
    np.savez(folder / "data.npz", x=np.random.default_rng(0).normal(size=(3, 1, 16, 24, 24)).astype(np.float32))
    (folder / "study.toml").write_text(
        'name = "chain"\n[model]\npath = "m.onnx"\ncalibration = "data.npz"\nevaluation = "data.npz"\n'
        '[variants]\nmethods = ["fp32", "fp16", "dynamic", "static"]\nformats = ["QDQ"]\nactivations = ["QUInt8"]\nweights = ["QUInt8"]\n'
        "[measure]\nrounds = 1\nrebuilds = 1\nblock = 0.002\nwarmup = 0.01\ncounting = false\n"
    )
    return folder


def blobs() -> dict[str, Path]:
    found = {path.name: path for path in (Path(os.environ["QUANT_HARNESS_HOME"]) / "blobs" / "sha256").iterdir()}
    assert all(hashlib.sha256(path.read_bytes()).hexdigest() == name for name, path in found.items())
    return found


def test_large_models_go_all_the_way(harness: Command, chain: Path) -> None:
    done = harness("run", str(chain), "--json")
    assert done.code == 0, done.err
    (table,) = done.json["devices"]
    rows = {row["case"]: row for row in table["rows"]}
    assert {name: row["state"] for name, row in rows.items()} == dict.fromkeys(
        ("fp32", "fp16", "dynamic-U8", "static-QDQ-U8U8"), "measured"
    )
    assert rows["fp32"]["identical"]
    assert rows["fp32"]["size"] > 60_000
    assert (rows["fp32"]["rung"], rows["static-QDQ-U8U8"]["rung"]) == (None, "default")
    (folder,) = Path("results/chain").iterdir()
    record = json.loads((folder / "run.json").read_text())
    variants = {each["recipe"]["name"]: each for each in record["variants"]}
    data = variants["fp32"]["data"]
    assert {path.name for path in (folder / "variants").iterdir()} == {data, *(f"{name}.onnx" for name in rows)}
    assert {name: each["data"] is None for name, each in variants.items()} == {name: name != "fp32" for name in rows}
    # Other models of the board's store are found beside it by the same name.
    assert {data, variants["fp32"]["sha256"]} <= set(blobs())
    shown = harness("show", "latest", "--json")
    assert shown.code == 0


def test_a_saved_baseline_has_both_files(harness: Command, chain: Path, tmp_path: Path) -> None:
    made = harness("quantize", str(chain), "-o", "out", "--variant", "fp32", "--json").json["variants"]
    variant = Variant.model_validate(made[0])
    models = tmp_path / "models"
    baseline = Baseline(name="before", kind="saved", model_sha256="0" * 64, variants=(variant,))
    assert baseline_file.save(baseline, tmp_path / "before.json", models) == 1
    shutil.rmtree("out")
    (found,) = baseline_file.load(tmp_path / "before.json", models).variants
    assert {path.name for path in found.files().values()} == {path.name for path in models.iterdir()}
    assert len(found.files()) == 2
    data = models / str(found.data)
    data.write_bytes(bytes(data.stat().st_size))
    with pytest.raises(ResultsError, match="has changed since it was measured"):
        baseline_file.load(tmp_path / "before.json", models)
    data.unlink()
    with pytest.raises(ResultsError, match=rf"the model of 'fp32' is missing: .*{found.data}"):
        baseline_file.load(tmp_path / "before.json", models)


def test_variants_that_are_made_again_leave_nothing_over(harness: Command, chain: Path) -> None:
    for seed in (1, 2):
        tensor = min(chain.glob("w*"))
        tensor.write_bytes(np.random.default_rng(seed).normal(size=2304).astype(np.float32).tobytes())
        done = harness("quantize", str(chain), "-o", "out", "--variant", "fp32", "--json")
        assert done.code == 0, done.err
        (variant,) = done.json["variants"]
        assert {path.name for path in Path("out").iterdir()} == {"fp32.onnx", variant["data"]}


def test_the_cache_keeps_both_files(harness: Command, chain: Path) -> None:
    file = chain / "study.toml"
    file.write_text(re.sub(r"methods = .*", 'methods = ["prepared"]', file.read_text()))
    first, again = (harness("quantize", str(chain), "-o", name, "--json").json["variants"][1] for name in ("one", "two"))
    assert first["data"] is not None
    assert {**again, "path": None} == {**first, "path": None}
    kept = Path(os.environ["QUANT_HARNESS_HOME"]) / "variants"
    assert first["data"] in {path.name for path in kept.iterdir()}
    assert (Path("two") / first["data"]).read_bytes() == (Path("one") / first["data"]).read_bytes()
    # Damaged there, it is made anew.
    (kept / first["data"]).write_bytes(b"rotten")
    third = harness("quantize", str(chain), "-o", "three", "--json").json["variants"][1]
    assert (third["state"], third["sha256"]) == ("made", first["sha256"])
    assert (Path("three") / first["data"]).read_bytes() == (Path("one") / first["data"]).read_bytes()


def test_inspect_reads_no_tensors(harness: Command, chain: Path) -> None:
    done = harness("inspect", str(chain / "m.onnx"), "--json")
    assert done.code == 0, done.err
    assert done.json["parameters"] == 8 * 16 * 16 * 9
    assert len(done.json["external_data"]) == 8


def _free() -> tuple[int, int]:
    """Free memory and disk, in bytes."""
    meminfo = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(meminfo["MemAvailable"].split()[0]) * 1024, shutil.disk_usage(Path.cwd()).free


@pytest.mark.large
def test_a_model_of_2_gb(harness: Command) -> None:
    memory, disk = _free()
    if min(memory, disk) < NEEDED:
        pytest.skip(f"needs {NEEDED / GB:.0f} GB of memory and of disk; {memory / GB:.1f} and {disk / GB:.1f} GB are free")
    size = WIDTH * WIDTH * 4
    rng = np.random.default_rng(0)
    with Path("weights").open("wb") as file:
        for layer in range(LAYERS):
            # One row of numbers; the others are holes in the file.
            file.seek(layer * size)
            file.write((0.01 * rng.normal(size=WIDTH)).astype(np.float32).tobytes())
        file.truncate(LAYERS * size)
    assert Path("weights").stat().st_size > 2 * 2**30 - 1
    weights = []
    for layer in range(LAYERS):
        tensor = TensorProto(
            name=f"w{layer}", data_type=TensorProto.FLOAT, dims=[WIDTH, WIDTH], data_location=TensorProto.EXTERNAL
        )
        for key, value in (("location", "weights"), ("offset", layer * size), ("length", size)):
            tensor.external_data.add(key=key, value=str(value))
        weights.append(tensor)
    names = ["x", *(f"h{layer}" for layer in range(1, LAYERS)), "y"]
    nodes = [helper.make_node("MatMul", [names[n], f"w{n}"], [names[n + 1]], f"layer{n}") for n in range(LAYERS)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, WIDTH]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "large.onnx")
    np.savez("data.npz", x=rng.normal(size=(1, 1, WIDTH)).astype(np.float32))
    Path("study.toml").write_text(
        'name = "large"\n[model]\npath = "large.onnx"\ncalibration = "data.npz"\nevaluation = "data.npz"\n'
        '[variants]\nmethods = ["fp32", "dynamic", "static"]\nformats = ["QDQ"]\nactivations = ["QUInt8"]\nweights = ["QInt8"]\n'
        "[measure]\nrounds = 1\nrebuilds = 1\nblock = 0.01\nwarmup = 0.01\ncounting = false\ntimeout = 300\n"
    )
    done = harness("run", "study.toml", "--json")
    assert done.code == 0, done.err
    (table,) = done.json["devices"]
    rows = {row["case"]: row for row in table["rows"]}
    assert {name: row["state"] for name, row in rows.items()} == dict.fromkeys(
        ("fp32", "dynamic-S8", "static-QDQ-U8S8"), "measured"
    )
    assert rows["fp32"]["identical"]
    assert rows["fp32"]["size"] > LAYERS * size
    assert 0.24 < rows["dynamic-S8"]["size_ratio"] < 0.26
    assert rows["dynamic-S8"]["rung"] == rows["static-QDQ-U8S8"]["rung"]
