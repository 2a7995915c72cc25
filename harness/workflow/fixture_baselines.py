"""The baselines of the pytest fixture: a file for each model and device, ``baselines/NAME.MODEL.DEVICE.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import paths
from harness.errors import ResultsError, UsageError
from harness.records import baseline_file
from harness.study.toml_file import nearest
from harness.workflow import baselines

if TYPE_CHECKING:
    from pathlib import Path

    from harness.judge.judgement import Judgement


class FixtureBaselines:
    """The baselines in a folder, as the tests of one session use them.

    Args:
        folder: where the files are; it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._models: dict[str, Path] = {}

    def name(self, saved: str, model: Path, device: str) -> str:
        """The full name of a baseline.

        Args:
            saved: what ``--device-save`` or ``--device-baseline`` say.
            model: the model's file.
            device: a name or a ``@TAG``.

        Raises:
            UsageError: if another model of this session has that name: one of them would be compared with the other's baseline.
        """
        name = f"{saved}.{model.stem}.{device.removeprefix('@')}"
        first = self._models.setdefault(name, model.resolve())
        if first != model.resolve():
            message = f"{self._file(name)}: two models would share this baseline, {first} and {model}; give one of the two files another name"
            raise UsageError(message)
        return name

    def missing(self, saved: str, model: Path, device: str) -> str | None:
        """A message that a baseline was never saved, and how to save it; None if its file exists.

        Raises:
            ResultsError: if the folder can't be read.
            UsageError: as :meth:`name`.
        """
        file = self._file(self.name(saved, model, device))
        try:
            file.lstat()
        except FileNotFoundError:
            end = file.name.removeprefix(saved)
            others = sorted(other.name.removesuffix(end) for other in self.folder.glob("*") if other.name.endswith(end))
            there = f" ({nearest(saved, others)})" if others else ""
            return (
                f"no baseline '{saved}' of {model.name} on {device}{there}: {file} does not exist. The test is new, or it gave no result "
                f"when '{saved}' was saved. 'pytest --device-save {saved}' saves one"
            )
        except OSError as exc:
            message = f"{file}: can't be read: {exc.strerror}"
            raise ResultsError(message) from exc
        return None

    def save(self, name: str, judgement: Judgement, folder: Path) -> None:
        """Keep a finished run as a baseline.

        Raises:
            ResultsError: if the run has nothing to compare with, or the file can't be written.
        """
        taken = baseline_file.of_folder(baselines.of_run(judgement, name), folder)
        baseline_file.save(taken, self._file(name), paths.models())

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}{baseline_file.SUFFIX}"
