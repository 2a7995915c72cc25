"""study.toml as a :class:`Study`: read, checked, and completed with the defaults."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from harness import paths
from harness.errors import StudyError
from harness.study import toml_file
from harness.study.claims_and_gate import ClaimSection, GateSection
from harness.study.datasets import CALLABLE, DataSource, absolute
from harness.study.keys import Name
from harness.study.specs import AnyVariantSpec, VariantSpec
from harness.study.toml_file import Section
from harness.study.variants import VariantsSection

GIVEN = "given"
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
# What waits can take: the clocks that they use overflow after some centuries.
LONGEST = 366 * 86400.0


def seconds(value: object) -> float:
    """Read a duration.

    Args:
        value: a number of seconds, or text such as ``"90s"``, ``"5m"``, ``"1h"``, ``"250ms"``.

    Returns:
        The duration in seconds, above zero and at most a year.

    Raises:
        ValueError: if it is neither, not above zero or longer.
    """
    found = re.fullmatch(r"\s*([0-9.]+)\s*(ms|s|m|h)?\s*", str(value))
    try:
        result = float(found[1]) * SECONDS[found[2] or "s"] if found and not isinstance(value, bool) else 0.0
    except ValueError:
        result = 0.0
    if not 0 < result <= LONGEST:
        message = f"a duration must be a number above zero with ms, s, m or h, such as '5m', and at most a year, not {str(value)[:50]!r}"
        raise ValueError(message)
    return result


def _dim_values(value: object) -> object:
    """Accept one value as a list of one."""
    return [value] if isinstance(value, int) else value


def _callable_name(value: str) -> str:
    """Refuse a metric that can't be imported."""
    if not CALLABLE.fullmatch(value):
        message = f"a metric must be a Python function as 'module:callable', such as 'word_errors:rate', not {value!r:.120}"
        raise ValueError(message)
    return value


Seconds = Annotated[float, BeforeValidator(seconds)]
Optimization = Literal["all", "extended", "basic", "disabled"]
Share = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]
Size = Annotated[int, Field(ge=0)]
Dims = dict[str, Annotated[list[Size], BeforeValidator(_dim_values), Field(min_length=1)]]


class ModelSection(Section):
    """``[model]``: the file, its shapes and its data; paths are absolute once a study is loaded.

    Attributes:
        metric: ``module:callable``, the user's own figure of merit; see :mod:`harness.quantize.metric`.
        metric_better: which way it is better.
        output: name of the output that labels are compared with; None chooses one.
    """

    path: Path
    dims: Dims = {}
    calibration: DataSource = "random"
    evaluation: DataSource | None = None
    output: str | None = None
    metric: Annotated[str, AfterValidator(_callable_name)] | None = None
    metric_better: Literal["higher", "lower"] = "higher"


class MeasureSection(Section):
    """``[measure]``: how each case is timed; times are in seconds.

    Attributes:
        optimization: onnxruntime's graph optimization levels.
        throughput: numbers of sessions at once whose inferences per second are measured.
        precision: half the width of a speed-up's 95 % interval at which measuring may stop.
        rounds: at most so many visits to each pair of cases.
        duet: two models side by side in blocks, or call by call, which is sharper for tiny ones but finds their data out of the caches.
        rebuilds: how often a process makes its sessions anew.
        block: how long one of a pair is measured before the other is.
        warmup: at most so long until an iteration's time is steady.
        launch: after this long a process makes no more sessions.
        wait: how long to queue for a device that another job holds.
        timeout: a process that lives longer is killed.
        counting: count instructions too, where the device can.
        emulated_samples: how many of the evaluation samples an emulated device computes; it would take hours for all.
    """

    threads: list[Positive] = [1]
    providers: list[str] = ["CPUExecutionProvider"]
    optimization: list[Optimization] = ["all"]
    throughput: list[Positive] = []
    max_time: Seconds = 300.0
    precision: Share = 0.01
    rounds: Positive = 40
    duet: Literal["blocks", "calls"] = "blocks"
    rebuilds: Positive = 4
    block: Seconds = 0.02
    warmup: Seconds = 1.0
    launch: Seconds = 10.0
    wait: Seconds | None = None
    timeout: Seconds = 120.0
    counting: bool = True
    emulated_samples: Positive = 16


class DevicesSection(Section):
    """``[devices]``: names and ``@tags``."""

    select: list[str] = ["local"]


class Study(Section):
    """A question about a model, its variants and devices."""

    name: Name
    model: ModelSection
    variants: VariantsSection = VariantsSection()
    variant: list[AnyVariantSpec] = []
    measure: MeasureSection = MeasureSection()
    devices: DevicesSection = DevicesSection()
    claim: list[ClaimSection] = []
    gate: GateSection | None = None

    @model_validator(mode="after")
    def _has_variants(self) -> Study:
        if not self.variants.methods and not self.variant:
            message = "the study has no variants: name methods under [variants], or add a [[variant]]"
            raise ValueError(message)
        if GIVEN in self.variants.methods and (len(self.variants.methods) > 1 or self.variant):
            message = f"'{GIVEN}' uses the model as it is, quantized or not, so it can't be combined with other methods or a [[variant]]"
            raise ValueError(message)
        return self

    @property
    def is_given(self) -> bool:
        """Whether the model is taken as it is, quantized or not, and nothing is made of it."""
        return GIVEN in self.variants.methods


def load(path: Path) -> Study:
    """Read a study.

    Args:
        path: the TOML file, or the folder that holds it as ``study.toml``.

    Returns:
        The study, with its model and data paths made absolute.

    Raises:
        StudyError: if it is missing, not TOML, or has an unknown key or a wrong value.
    """
    file = path / "study.toml" if path.is_dir() else path
    table, text = toml_file.parse(file, StudyError)
    study = toml_file.validate(Study, table, file, text, StudyError)
    return _absolute(study, file.resolve().parent)


def for_model(path: Path, **model: Any) -> Study:  # noqa: ANN401 - ModelSection checks each value
    """Make the study that a bare model file stands for.

    Args:
        path: the model; its stem gives the study's name.
        model: further keys of ``[model]``, paths relative to the working folder.
    """
    stem = re.sub(r"[^A-Za-z0-9._+-]+", "-", path.stem).strip("-._+") or "model"
    study = Study(name=stem[:100], model=ModelSection(path=path, **model))
    return _absolute(study, Path.cwd())


def _absolute(study: Study, folder: Path) -> Study:
    """Resolve the paths of data and of the model against the folder."""
    section = study.model
    model = section.model_copy(
        update={
            "path": folder / paths.expanded(section.path),
            "calibration": absolute(section.calibration, folder),
            "evaluation": None if section.evaluation is None else absolute(section.evaluation, folder),
            "metric": None if section.metric is None else absolute(section.metric, folder),
        }
    )
    variants = [_absolute_spec(spec, folder) for spec in study.variant]
    return study.model_copy(update={"model": model, "variant": variants})


def _absolute_spec(spec: VariantSpec, folder: Path) -> VariantSpec:
    """Resolve the paths of a variant that is spelled out."""
    update: dict[str, Any] = {}
    if data := getattr(spec, "calibration_data", None):
        update["calibration_data"] = absolute(data, folder)
    if model := getattr(spec, "model", None):
        update["model"] = str(folder / paths.expanded(Path(model)))
    return spec.model_copy(update=update) if update else spec
