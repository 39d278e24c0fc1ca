"""The results of a setting on disk: a run folder whose ``progress.csv`` has the rows of all its seeds."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import yaml

from cppo.benchmarks.learner_settings import LearnerSettings
from cppo.benchmarks.problem import Row
from cppo.files import replacing
from cppo.runs.folder import RunFolder, versions

Some = TypeVar("Some", bound=LearnerSettings)


@dataclass(frozen=True)
class ResultFolder(RunFolder):
    """The folder of one setting: ``config.yaml`` and ``progress.csv``; rows are written when a seed is done.

    :param path: the folder
    """

    def begin(self, problem: str, settings: LearnerSettings, command: Sequence[str]) -> None:
        """Write the configuration, unless the same one is there already.

        :param problem: the problem's name
        :param settings: resolved settings
        :param command: what was typed
        :raises FileExistsError: if the folder holds results of other settings; more seeds of the same are fine
        :raises OSError: if the folder can't be written
        """
        record = {"problem": problem, "versions": versions(), "command": list(command)}
        if self.config.exists():
            before = self.record()
            asked = settings.as_dict()
            differing = [key for key in asked if key not in ("seeds", "first_seed")]
            differing = [key for key in differing if before["settings"].get(key) != asked[key]]
            if before.get("problem") != problem or differing:
                what = ", ".join(differing) or "problem"
                raise FileExistsError(f"{self.path} holds results of another setting ({what}); choose another --output")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with replacing(self.config) as partial:
                partial.write_text(yaml.safe_dump({"settings": settings.as_dict()} | record, sort_keys=False))
        except OSError as error:
            raise OSError(f"{self.path} can't be written: {error.strerror}") from error

    def settings_of(self, kind: type[Some]) -> Some:
        """Read the settings back.

        :raises ValueError: if they aren't of that kind
        """
        try:
            return kind(**self.record()["settings"]).resolved()
        except TypeError as error:
            raise ValueError(f"{self.config} is not the configuration of results: {error}") from error

    def results(self) -> list[Row]:
        """The rows of all seeds that are done.

        :raises ValueError: if they can't be read
        """
        return [{key: float(value) for key, value in row.items()} for row in self.rows()]

    def seeds_done(self) -> set[int]:
        """The seeds whose rows are there."""
        return {int(row["seed"]) for row in self.results()}

    def add(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Add the rows of a seed that is done; the file is written whole or not at all.

        :param rows: all with the same columns as those there are
        """
        together = [*self.results(), *rows]
        together.sort(key=lambda row: row["seed"])
        with replacing(self.progress) as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(together[0]))
            writer.writeheader()
            writer.writerows({key: f"{value:.7g}" for key, value in row.items()} for row in together)
