"""The options that several commands share: what a command works on, and how much is measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.study.study import Study

Target = Annotated[
    Path | None,
    typer.Argument(metavar="STUDY|MODEL.onnx", help="A study.toml, its folder, or a bare model.", show_default=False),
]
Dims = Annotated[
    list[str] | None,
    typer.Option(
        "--dim",
        metavar="NAME=VALUE",
        help="The value of a symbolic dimension of a bare model; several values, such as batch=1,8, give a case for each.",
    ),
]
Calibration = Annotated[
    str | None,
    typer.Option(
        "--calibration",
        metavar="DATA",
        help="For a bare model: calibration inputs, as .npz, a folder of arrays, images or recordings, module:callable, 'random' or 'random:uniform(0,1)'.",
    ),
]
Evaluation = Annotated[
    str | None,
    typer.Option("--evaluation", metavar="DATA", help="For a bare model: evaluation inputs and, if you have them, labels."),
]
LabelOutput = Annotated[
    str | None, typer.Option("--output", metavar="NAME", help="For a bare model: the output that is compared with the labels.")
]
Methods = Annotated[
    str | None,
    typer.Option(
        "--variants",
        metavar="METHODS",
        help="For a bare model: the methods, such as fp32,static; or given, which uses the model as it is.",
    ),
]
Rounds = Annotated[
    int | None, typer.Option("--rounds", min=1, help="The maximum number of rounds on each device. [default: the study's]")
]
MaxTime = Annotated[
    str | None,
    typer.Option("--max-time", metavar="TIME", help="The time limit for each device, such as 5m. [default: the study's]"),
]
Wait = Annotated[
    str | None,
    typer.Option(
        "--wait",
        metavar="TIME",
        help="How long to wait for a device that is busy with another job, such as 10m. [default: exit 75 at once]",
    ),
]


@dataclass(frozen=True)
class ModelOptions:
    """A study, or a bare model and what study.toml would say of it."""

    target: Target = None
    dim: Dims = None
    calibration: Calibration = None
    variants: Methods = None

    @property
    def given(self) -> dict[str, object]:
        """The options for a bare model that the command line names, by their names there."""
        options = {"--dim": self.dim, "--calibration": self.calibration, "--variants": self.variants}
        return {name: value for name, value in options.items() if value}

    def study(self, methods: str | None = None) -> Study:
        """Find the study that is meant.

        Args:
            methods: of a bare model, where ``--variants`` names none.

        Raises:
            UsageError: if options for a bare model are given with a study, or can't be read.
        """
        from harness import paths
        from harness.study import specs, study

        target = self.target
        if target is None or target.is_dir() or target.suffix == ".toml":
            if self.given:
                message = f"{', '.join(self.given)}: only for a bare model; for a study, set it in study.toml"
                raise UsageError(message)
            return study.load(paths.DIGITS if target is None else target)
        made = study.for_model(target, **self._section())
        chosen = self.variants or methods
        if chosen is None:
            return made
        words = [word.strip() for word in chosen.split(",")]
        for word in words:
            if word not in specs.methods():
                message = f"--variants: there is no method '{word}'; known: {', '.join(specs.methods())}"
                raise UsageError(message)
        return made.model_copy(update={"variants": made.variants.model_copy(update={"methods": words})})

    def _section(self) -> dict[str, Any]:
        """The keys of ``[model]`` that the options stand for."""
        found: dict[str, Any] = {"dims": read_dims(self.dim or [])}
        return found | ({"calibration": self.calibration} if self.calibration else {})


@dataclass(frozen=True)
class StudyOptions(ModelOptions):
    """The options of a study with evaluation data, for commands that run the variants."""

    evaluation: Evaluation = None
    output: LabelOutput = None

    @property
    def given(self) -> dict[str, object]:
        """As :attr:`ModelOptions.given`."""
        options = {"--evaluation": self.evaluation, "--output": self.output}
        return super().given | {name: value for name, value in options.items() if value}

    def _section(self) -> dict[str, Any]:
        more = {"evaluation": self.evaluation, "output": self.output}
        return super()._section() | {name: value for name, value in more.items() if value}


@dataclass(frozen=True)
class LimitOptions:
    """How much is measured."""

    rounds: Rounds = None
    max_time: MaxTime = None
    wait: Wait = None

    @property
    def seconds(self) -> dict[str, float]:
        """The times that the command line names, in seconds, by the keys of ``[measure]``.

        Raises:
            UsageError: if one can't be read.
        """
        times = {"max_time": (self.max_time, "--max-time"), "wait": (self.wait, "--wait")}
        return {key: duration(value, option) for key, (value, option) in times.items() if value is not None}

    def apply(self, study: Study) -> Study:
        """Limit a study.

        Raises:
            UsageError: if a time can't be read.
        """
        update: dict[str, Any] = {**({} if self.rounds is None else {"rounds": self.rounds}), **self.seconds}
        return study.model_copy(update={"measure": study.measure.model_copy(update=update)})


def read_dims(options: list[str]) -> dict[str, list[int]]:
    """Read ``NAME=VALUE`` and ``NAME=VALUE,VALUE``.

    Raises:
        UsageError: if one is not of that form.
    """
    found: dict[str, list[int]] = {}
    for option in options:
        name, equals, values = option.rpartition("=")
        numbers = [value.strip() for value in values.split(",")]
        if not equals or not name or not all(number.isascii() and number.isdigit() for number in numbers):
            message = f"--dim {option}: write NAME=VALUE with whole numbers, such as --dim batch=1 or --dim batch=1,8"
            raise UsageError(message)
        found[name] = [int(number) for number in numbers]
    return found


def duration(value: str, option: str) -> float:
    """Read an option's duration, in seconds.

    Raises:
        UsageError: if it can't be read.
    """
    from harness.study.study import seconds

    try:
        return seconds(value)
    except ValueError as exc:
        message = f"{option}: {exc}"
        raise UsageError(message) from exc
