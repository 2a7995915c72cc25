"""A pytest plugin: gates beside a team's tests.

::

    def test_ocr(device_benchmark):
        device_benchmark("ocr.onnx", device="rpi4", max_regression=0.05)

``pytest --device-save 2.3`` measures and keeps what it measured as the baseline '2.3'; ``pytest --device-baseline 2.3`` measures both models again, side
by side, and fails for a regression. Without either it measures. A device that can't be reached, is busy or does not tell enough skips the test with its
reason: that is no slower model. So does a baseline that was never saved, as of a test that is new. ``--device-strict`` fails the test instead.

Nothing of the harness is imported before a test asks for the fixture.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.errors import Exit
    from harness.judge.check import Check
    from harness.judge.judgement import Judgement
    from harness.study.study import Study
    from harness.workflow.fixture_baselines import FixtureBaselines

OPTIONS = {
    "baseline": ("NAME", "compare each model with the baseline that --device-save NAME saved, and fail for a regression"),
    "save": ("NAME", "save the measurements as the baseline NAME"),
    "baselines": ("DIR", "the folder of the baselines (default: baselines)"),
    "registry": ("FILE", "the devices.toml to use (default: the same as for harness)"),
    "results": ("DIR", "the folder of the runs (default: results)"),
    "json": ("FILE", "write the measurements in pytest-benchmark's format"),
}


@dataclass(frozen=True)
class Result:
    """What was measured of a model.

    Attributes:
        judgement: everything that is said of the run.
        folder: of the run, with all samples.
        median_ms: of an inference; None where it is not known, as on an emulated device.
        checks: of the gate; empty without a baseline.
    """

    judgement: Judgement = field(repr=False)
    folder: Path
    median_ms: float | None
    checks: tuple[Check, ...]


class DeviceBenchmark:
    """The fixture's value: call it with a model."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._config = request.config
        # A model lies beside its test; baselines and results where pytest is started.
        self._beside = request.path.parent
        self._here = request.config.invocation_params.dir

    def __call__(  # noqa: PLR0913, PLR0915 - each is a keyword of a study
        self,
        model: str | Path,
        *,
        device: str = "local",
        baseline: str | None = None,
        max_regression: float = 0.05,
        metric: str | Sequence[str] = "latency.median",
        check_outputs: bool = True,
        dims: Mapping[str, int] | None = None,
        evaluation: str | Path | None = None,
        max_time: str = "5m",
    ) -> Result:
        """Measure a model as it is, quantized or not, and compare it with a baseline if there is one.

        Args:
            model: the .onnx file, relative to the test's own file.
            device: a name in devices.toml, or ``@TAG``.
            baseline: a run, a saved baseline, a model file or ``onnxruntime==VERSION``; without one, that of ``--device-baseline``.
            max_regression: by how much a metric may get worse: 0.05 is 5 %.
            metric: what must not get worse.
            check_outputs: whether outputs that are constant or not finite where the baseline's are not fail the test, too.
            dims: values of the model's symbolic dimensions.
            evaluation: inputs, and ``labels`` where accuracy is gated; without them inputs are random.
            max_time: at most this long, such as ``5m``.

        Returns:
            What was measured.

        Raises:
            pytest.fail.Exception: for a regression, with a sentence for each.
            pytest.skip.Exception: where something was not measured or is not known precisely enough.
        """
        from harness.cli.progress import Lines  # noqa: PLC0415
        from harness.devices import preflight  # noqa: PLC0415
        from harness.devices import registry as registries  # noqa: PLC0415
        from harness.errors import DeviceError, Exit, HarnessError  # noqa: PLC0415
        from harness.workflow import check  # noqa: PLC0415 - heavy, and only needed here
        from harness.workflow.baselines import resolve  # noqa: PLC0415
        from harness.workflow.preflight import check_inputs  # noqa: PLC0415
        from harness.workflow.run import run_study  # noqa: PLC0415

        path = self._beside / model
        results = self._here / (self._option("results") or "results")
        kept = self._baselines()
        save, named = self._option("save"), self._option("baseline")
        trouble = None
        try:
            registry = registries.load(Path(found) if (found := self._option("registry")) else None)
            devices = preflight.select(registry, [device])
            study = self._study(path, dims or {}, str(self._beside / evaluation) if evaluation else None, max_time)
            missing = kept.missing(named, path, device) if named and not baseline else None
            against = baseline or (kept.name(named, path, device) if named else None)
            save_as = kept.name(save, path, device) if save else None
            if missing and not (save or self._option("json")):
                check_inputs(study)  # a model or data that can't be used fail the test, whatever it is compared with
                self._give_up(missing)
            if against is not None and not missing:
                limits = {"max_regression": max_regression, "check_outputs": check_outputs}
                study = check.with_gate(study, [metric] if isinstance(metric, str) else list(metric), **limits)
                source = resolve(_under(self._beside, against), results, kept.folder, study)
                folder, judgement = check.run_check(check_inputs(study), source, devices, registry, results, _Quiet(Lines()))
            else:
                if self._config.getoption("device_strict") and not (save or missing):
                    pytest.fail("there is no baseline to compare with: give baseline=, or --device-baseline NAME", pytrace=False)
                folder, judgement = run_study(check_inputs(study), devices, results, _Quiet(Lines()))
            code = judgement.exit
            # A latency that is less precise than required is shown with its interval; nothing is judged by it.
            if (
                not judgement.is_gate
                and code == Exit.INCONCLUSIVE
                and all(each.state == "measured" for each in judgement.run.results)
            ):
                code = Exit.PASSED
            if save_as and code == Exit.PASSED:
                kept.save(save_as, judgement, folder)
        except DeviceError as exc:
            self._give_up(f"not measured: {exc}")
        except HarnessError as exc:
            trouble = str(exc)
        if trouble is not None:
            pytest.fail(trouble, pytrace=False)
        medians = [row.median.value for table in judgement.tables for row in table.rows if row.variant == "given" and row.median]
        result = Result(judgement, folder, medians[0] if medians else None, judgement.checks)
        self._config.stash[RESULTS].append(result)
        self._judge(result, code)
        if missing:
            self._give_up(f"measured, but not compared: {missing}")
        return result

    def _study(self, path: Path, dims: Mapping[str, int], evaluation: str | None, max_time: str) -> Study:
        from harness.study import study as studies  # noqa: PLC0415

        section: dict[str, Any] = {"dims": {name: [value] for name, value in dims.items()}}
        section |= {"evaluation": evaluation, "calibration": evaluation} if evaluation else {}
        found = studies.for_model(path, **section)
        return found.model_copy(
            update={
                "variants": found.variants.model_copy(update={"methods": [studies.GIVEN]}),
                "measure": found.measure.model_copy(update={"max_time": studies.seconds(max_time)}),
            }
        )

    def _baselines(self) -> FixtureBaselines:
        """The session's baselines: two models must not share one."""
        from harness.workflow.fixture_baselines import FixtureBaselines  # noqa: PLC0415

        return self._config.stash.setdefault(BASELINES, FixtureBaselines(self._here / (self._option("baselines") or "baselines")))

    def _judge(self, found: Result, code: Exit) -> None:
        """Fail for a regression; skip for what is no fault of the model."""
        from harness.errors import Exit  # noqa: PLC0415
        from harness.report import gate  # noqa: PLC0415

        if code == Exit.PASSED:
            return
        lines = [gate.sentence(found.judgement.run, check) for check in gate.ranked(found.checks) if check.verdict != "passed"]
        lines += [f"{table.device.entry.name}: {table.trouble}" for table in found.judgement.tables if table.trouble]
        lines += [f"{table.device.entry.name}: {table.shortfall.sentence}" for table in found.judgement.tables if table.shortfall]
        lines += [
            f"{row.case} on {row.device}: {row.reason}" for table in found.judgement.tables for row in table.rows if row.reason
        ]
        words = "\n".join([*dict.fromkeys(lines), f"run: {found.folder}"])
        if code == Exit.INTERRUPTED:
            raise KeyboardInterrupt
        if code == Exit.REGRESSED:
            pytest.fail(words, pytrace=False)
        unsaved = f"; not saved as '{self._option('save')}'" if self._option("save") else ""
        self._give_up(f"not measured{unsaved}: {words}")

    def _give_up(self, reason: str) -> NoReturn:
        """Skip the test, or fail it under ``--device-strict``."""
        if self._config.getoption("device_strict"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)

    def _option(self, name: str) -> str | None:
        found: str | None = self._config.getoption(f"device_{name}")
        return found


class _Quiet:
    """What pytest shows of the progress: nothing but on standard error, which it captures."""

    def __init__(self, lines: Any) -> None:  # noqa: ANN401 - the command's own watcher
        self.variant, self.plan, self.event = lines.variant, lines.plan, lines.event


def _under(folder: Path, name: str) -> str:
    """A model file lies beside the test; every other name stands for itself."""
    return str(folder / name) if name.endswith(".onnx") else name


RESULTS: pytest.StashKey[list[Result]] = pytest.StashKey()
BASELINES: pytest.StashKey[FixtureBaselines] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the command line's options."""
    group = parser.getgroup("device benchmarks (quant-harness)")
    for name, (metavar, words) in OPTIONS.items():
        group.addoption(f"--device-{name}", dest=f"device_{name}", metavar=metavar, help=words)
    group.addoption(
        "--device-strict",
        dest="device_strict",
        action="store_true",
        help="fail the test, instead of skipping it, if a device gives no result",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make room for what is measured."""
    config.stash[RESULTS] = []


@pytest.fixture
def device_benchmark(request: pytest.FixtureRequest) -> DeviceBenchmark:
    """Measure a model on a device, and fail if it got slower: ``device_benchmark("ocr.onnx", device="rpi4", max_regression=0.05)``."""
    return DeviceBenchmark(request)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:  # noqa: ANN401 - pytest's is private
    """Say what was measured."""
    found = config.stash[RESULTS]
    if not found:
        return
    from harness.report import gate, numbers  # noqa: PLC0415

    terminalreporter.section("device benchmarks")
    for result in found:
        for table in result.judgement.tables:
            name = f"{result.judgement.run.study.name} on {table.device.entry.name}"
            if result.checks:
                terminalreporter.line(f"{name}: {gate.verdict(result.judgement.with_tables([table]))}")
            else:
                rows = [numbers.estimate(row.median) for row in table.rows if row.median]
                level = f"{', '.join(rows)} ms" if rows else table.trouble or "no latency"
                terminalreporter.line(f"{name}: {level}; not compared: no baseline")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write what was measured as pytest-benchmark does."""
    config = session.config
    found = config.stash[RESULTS]
    path = config.getoption("device_json")
    if not path or not found:
        return
    from harness.report import benchmark_json  # noqa: PLC0415

    written = [json.loads(benchmark_json.render(result.judgement)) for result in found]
    merged = {**written[0], "benchmarks": [each for one in written for each in one["benchmarks"]]}
    Path(path).write_text(json.dumps(merged, indent=1) + "\n", encoding="utf-8")
