"""The parts of a study that judge its results: ``[[claim]]``, which a run supports or refutes, and ``[gate]``, which a candidate must pass."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from harness.study.specs import all_keys, choices
from harness.study.toml_file import Section, nearest

EMULATED = ("icount", "wall", "user", "no")
RUNTIME = r"(([<>=!~]=|[<>])?\d+(\.\d+)*(,(?=[<>=!~])|$))+"
PLACES = ("arch", "tag", "feature", "device", "runtime", "emulated")
COMPARING = ("faster", "smaller", "more_accurate", "same_speed")
OUTCOMES = ("fails", "loads")
METRICS_OF = {
    "faster": ("latency", "instructions"),
    "same_speed": ("latency", "instructions"),
    "more_accurate": ("accuracy", "sqnr"),
}
# Two speeds are the same when neither is this many times the other, unless the claim says otherwise.
SAME = 1.05
# Counts of instructions repeat to a tenth of a per cent: nothing smaller is a difference.
REPEATS = 1.001
Metric = Literal[
    "latency.median", "latency.p90", "latency.p99", "load", "memory", "size", "accuracy", "top1_agreement", "sqnr", "instructions", "outputs"
]  # fmt: skip
TIMES = ("latency.median", "latency.p90", "latency.p99", "load")
# The gate metrics that compare a variant with its fp32 model.
AGAINST_FP32 = ("sqnr", "top1_agreement")
# Where memory happens to lie gives as much.
LEAST_SLOWDOWN = 0.01
MAX_REGRESSION = 0.05
PERCENT = 100


def _known_traits(value: dict[str, Any]) -> dict[str, Any]:
    """Refuse what no recipe has."""
    for key, wanted in value.items():
        if key not in (traits := ("name", "method", *all_keys())):
            message = f"a recipe has no key '{key}'; {nearest(key, traits)}"
            raise ValueError(message)
        known = choices(key)
        for each in wanted if isinstance(wanted, list) else [wanted]:
            if known and each not in known:
                message = f"{key} can't be {each!r}; {nearest(str(each), [str(one) for one in known])}"
                raise ValueError(message)
    return value


def _a_share(value: float) -> float:
    """Refuse a share that was meant as a percentage."""
    if not 0 <= value < 1:
        hint = f"; {value:g} % is {value / 100:g}" if 1 <= value <= PERCENT else ""
        message = f"max_regression must be a share of at least 0 and below 1, such as 0.05 for 5 %, not {value:g}{hint}"
        raise ValueError(message)
    return value


def _decibels(value: float) -> float:
    """Refuse a drop that is none."""
    if not 0 <= value < math.inf:
        message = f"max_drop_db must be a number of decibels, 0 or more, not {value:g}"
        raise ValueError(message)
    return value


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


Traits = Annotated[dict[str, Any], AfterValidator(_known_traits)]
Metrics = Annotated[list[Metric], BeforeValidator(_one_or_more), Field(min_length=1)]
Allowed = Annotated[float, AfterValidator(_a_share)]
AllowedDrop = Annotated[float, AfterValidator(_decibels)]


class ClaimSection(Section):
    """``[[claim]]``: a sentence about cases and devices.

    Attributes:
        faster: traits of the recipes that are meant to be faster; likewise smaller, more_accurate and same_speed.
        than: those of the others; the cases that are compared differ in nothing else.
        fails: traits of the variants that are meant not to be made, to load or to run; loads: of those that do.
        on: where it is meant to hold: arch, tag, feature, device, runtime.
        metric: latency or instructions of ``faster`` and ``same_speed``, latency if it does not say; accuracy or sqnr of ``more_accurate``,
            accuracy if it does not say and there are labels.
        by: how many times faster or smaller at the least; for more_accurate a share of top-1, or decibels of SQNR without labels; for
            same_speed the ratio that still counts as the same.
        between: the ratio lies between these.
    """

    text: str
    faster: Traits | None = None
    smaller: Traits | None = None
    more_accurate: Traits | None = None
    same_speed: Traits | None = None
    than: Traits | None = None
    fails: Traits | None = None
    loads: Traits | None = None
    on: dict[str, str] = {}
    metric: Literal["latency", "instructions", "accuracy", "sqnr"] | None = None
    by: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    between: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _is_one_sentence(self) -> ClaimSection:
        said = [name for name in (*COMPARING, *OUTCOMES) if getattr(self, name) is not None]
        if len(said) != 1:
            message = (
                f"a claim needs exactly one of the keys {', '.join((*COMPARING, *OUTCOMES))}, not {', '.join(said) or 'none'}"
            )
            raise ValueError(message)
        if said[0] in COMPARING and self.than is None:
            message = f"{said[0]} needs 'than', the variants that it is compared with"
            raise ValueError(message)
        if said[0] in OUTCOMES and (self.than is not None or self.by is not None or self.between is not None):
            message = f"{said[0]} can't be combined with 'than', 'by' or 'between'"
            raise ValueError(message)
        if self.between is not None and (self.by is not None or not 0 < self.between[0] < self.between[1]):
            message = "between must be [LOW, HIGH] with 0 < LOW < HIGH, and can't be combined with 'by'"
            raise ValueError(message)
        if said[0] == "same_speed" and self.by is not None and self.by <= 1:
            message = "with same_speed, 'by' is the ratio up to which speeds count as the same; it must be above 1, such as 1.05"
            raise ValueError(message)
        fitting = METRICS_OF.get(said[0], ())
        if self.metric is not None and self.metric not in fitting:
            message = f"{said[0]} is judged by {' or '.join(fitting) or 'no metric'}, not by {self.metric}"
            raise ValueError(message)
        if said[0] in {"faster", "smaller"} and self.by is not None and self.by < 1:
            message = f"{said[0]}: 'by' must be a ratio of 1 or more, not {self.by:g}"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _has_known_places(self) -> ClaimSection:
        for key, wanted in self.on.items():
            if key not in PLACES:
                message = f"'on' has no key '{key}'; {nearest(key, PLACES)}"
                raise ValueError(message)
            if key == "emulated" and wanted not in EMULATED:
                message = f"on.emulated can't be '{wanted}'; {nearest(wanted, EMULATED)}"
                raise ValueError(message)
            if key == "runtime" and not re.fullmatch(RUNTIME, wanted):
                message = f"on.runtime must be a version or a comparison such as '<1.24.1' or '>=1.24,<1.26', not '{wanted}'"
                raise ValueError(message)
        return self

    @property
    def kind(self) -> str:
        """Which of the sentences it is."""
        return next(name for name in (*COMPARING, *OUTCOMES) if getattr(self, name) is not None)

    @property
    def subject(self) -> dict[str, Any]:
        """The traits of what it speaks of."""
        found: dict[str, Any] = getattr(self, self.kind)
        return found

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Between which ratios the claim holds; None is 'no bound'."""
        if self.between is not None:
            return self.between
        if self.kind == "same_speed":
            limit = self.by or SAME
            return 1 / limit, limit
        if self.kind == "more_accurate":
            return self.by or 0.0, None
        return self.by or (REPEATS if self.metric == "instructions" else 1.0), None


class LimitSection(Section):
    """``[[gate.limit]]``: a limit of its own for a metric, perhaps only on some devices or for some variants.

    Attributes:
        max_regression: of every metric but ``sqnr`` and ``outputs``.
        max_drop_db: of ``sqnr``.
    """

    metric: Metric
    max_regression: Allowed | None = None
    max_drop_db: AllowedDrop | None = None
    device: str | None = None
    variant: str | None = None

    @model_validator(mode="after")
    def _has_the_limit_of_its_metric(self) -> LimitSection:
        if self.metric == "outputs":
            message = "the metric outputs has no limit: the gate fails for every fault of the candidate's outputs that the baseline does not have"
            raise ValueError(message)
        wanted, other = ("max_drop_db", "max_regression") if self.metric == "sqnr" else ("max_regression", "max_drop_db")
        if getattr(self, wanted) is None or getattr(self, other) is not None:
            unit = "decibels, such as 1.0" if wanted == "max_drop_db" else "a share, such as 0.05"
            message = f"the limit of {self.metric} must be given as {wanted} ({unit}){f', not {other}' if getattr(self, other) is not None else ''}"
            raise ValueError(message)
        return self

    @property
    def allowed(self) -> float:
        """The limit in its metric's unit."""
        found = self.max_drop_db if self.metric == "sqnr" else self.max_regression
        assert found is not None  # noqa: S101 - validated
        return found


class GateSection(Section):
    """``[gate]``: the rule by which a candidate passes.

    Attributes:
        metric: what must not get worse.
        max_regression: by how much it may: a share, 0.05 is 5 %; of accuracy and top1_agreement points of top-1, 0.05 is 5 points.
        max_drop_db: by how many decibels ``sqnr`` may fall.
        check_outputs: whether the gate also fails for outputs that are constant or not finite where the baseline's are not, whatever
            ``metric`` says.
        limit: further metrics, or other limits; of several that apply the last one counts.
    """

    metric: Metrics = ["latency.median"]
    max_regression: Allowed = MAX_REGRESSION
    max_drop_db: AllowedDrop = 1.0
    check_outputs: bool = True
    limit: list[LimitSection] = []

    @model_validator(mode="after")
    def _is_measurable(self) -> GateSection:
        limits = [*((each, self.allowed(each)) for each in self.metric), *((each.metric, each.allowed) for each in self.limit)]
        for metric, allowed in limits:
            if metric in TIMES and allowed < LEAST_SLOWDOWN:
                message = (
                    f"{metric}: max_regression = {allowed:g} is below {LEAST_SLOWDOWN:g}, and the position in memory alone causes differences of that size; "
                    f"give {LEAST_SLOWDOWN:g} or more"
                )
                raise ValueError(message)
        # By its value: a run's own record of its gate says every key.
        if set(self.metric) == {"sqnr"} and self.max_regression != MAX_REGRESSION:
            message = "the limit of sqnr is in decibels, and max_regression is a share: give max_drop_db (--max-drop-db)"
            raise ValueError(message)
        return self

    def allowed(self, metric: Metric) -> float:
        """The limit of a metric that has none of its own: decibels of ``sqnr``, 0 of ``outputs``, else a share."""
        return self.max_drop_db if metric == "sqnr" else 0.0 if metric == "outputs" else self.max_regression

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Everything that is looked at somewhere; ``outputs`` comes last."""
        found = dict.fromkeys([*self.metric, *(each.metric for each in self.limit)])
        asked = "outputs" in found or self.check_outputs
        return (*(each for each in found if each != "outputs"), *(("outputs",) if asked else ()))

    @property
    def only_outputs(self) -> bool:
        """Whether nothing but the outputs is looked at."""
        return self.metrics == ("outputs",)


ALL_METRICS: tuple[str, ...] = get_args(Metric)
