"""What a command works on: a study, or the study that a bare model and its options stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from harness.study.study import Study


def study_of(
    target: Path | None,
    *,
    dims: list[str] | None,
    calibration: str | None,
    evaluation: str | None,
    methods: str | None,
    output: str | None = None,
) -> Study:
    """Find the study that is meant.

    Raises:
        UsageError: if options for a bare model are given with a study, or can't be read.
    """
    from harness import paths
    from harness.study import specs, study

    model_options = {
        "--dim": dims,
        "--calibration": calibration,
        "--evaluation": evaluation,
        "--variants": methods,
        "--output": output,
    }
    given = [name for name, value in model_options.items() if value]
    if target is None or target.is_dir() or target.suffix == ".toml":
        if given:
            message = f"{', '.join(given)}: for a bare model only; in a study, say it in study.toml"
            raise UsageError(message)
        return study.load(paths.DIGITS if target is None else target)
    options: dict[str, Any] = {"dims": read_dims(dims or [])}
    options |= {"calibration": calibration} if calibration else {}
    options |= {"evaluation": evaluation} if evaluation else {}
    options |= {"output": output} if output else {}
    made = study.for_model(target, **options)
    if methods is None:
        return made
    words = [word.strip() for word in methods.split(",")]
    for word in words:
        if word not in specs.methods():
            message = f"--variants: '{word}' is no method; known: {', '.join(specs.methods())}"
            raise UsageError(message)
    return made.model_copy(update={"variants": made.variants.model_copy(update={"methods": words})})


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


def limited(study: Study, *, rounds: int | None, max_time: str | None, wait: str | None = None) -> Study:
    """Apply the options that change how much is measured.

    Raises:
        UsageError: if the time can't be read.
    """
    update: dict[str, Any] = {} if rounds is None else {"rounds": rounds}
    if max_time is not None:
        update["max_time"] = duration(max_time, "--max-time")
    if wait is not None:
        update["wait"] = duration(wait, "--wait")
    return study.model_copy(update={"measure": study.measure.model_copy(update=update)})


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
