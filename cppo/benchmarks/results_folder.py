"""The results of a setting on disk: a run folder whose ``progress.csv`` has the rows of all its seeds."""

import csv
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import yaml

from cppo.benchmarks.learner_settings import LearnerSettings
from cppo.benchmarks.problem import Row
from cppo.files import naming, replacing
from cppo.reading import UnreadableError, read_rows
from cppo.runs.folder import RunFolder, versions

Some = TypeVar("Some", bound=LearnerSettings)


@dataclass(frozen=True)
class ResultFolder(RunFolder):
    """The folder of one setting: ``config.yaml`` and ``progress.csv``; rows are written when a seed is done.

    :param path: the folder
    """

    def begin(self, problem: str, settings: LearnerSettings, command: Sequence[str]) -> None:
        """Write the configuration; the folder is there and its lock taken.

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
        with naming(self.path), replacing(self.config) as partial:
            partial.write_text(yaml.safe_dump({"settings": settings.as_dict()} | record, sort_keys=False))

    def settings_of(self, kind: type[Some]) -> Some:
        """Read the settings back.

        :raises ValueError: if they aren't of that kind
        """
        try:
            return kind(**self.record()["settings"]).resolved()
        except (AttributeError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise ValueError(f"{self.config} is not the configuration of results: {error}") from error

    def results(self, n_rows: int) -> list[Row]:
        """The rows of all seeds that are done; seeds with another number of rows are left out with a warning.

        :param n_rows: of each seed, as the settings say
        :raises UnreadableError: if they can't be read
        """
        rows = self._all_rows()
        counted = Counter(row["seed"] for row in rows)
        for seed, count in counted.items():
            if count != n_rows:
                told = f"{self.progress} has {count} rows of seed {seed:g}, which has {n_rows}"
                warnings.warn(f"{told}: it is left out, and a run trains it anew", stacklevel=2)
        return [row for row in rows if counted[row["seed"]] == n_rows]

    def _all_rows(self) -> list[Row]:
        try:
            names, *rows = [*read_rows(self.progress)] or [[]]
            if rows and "seed" not in names:
                raise ValueError("it has no column seed")
            return [dict(zip(names, map(float, row), strict=True)) for row in rows if row]
        except FileNotFoundError:
            return []
        except ValueError as error:
            reason = error.reason if isinstance(error, UnreadableError) else error
            raise UnreadableError(self.progress, reason) from error

    def add(self, rows: Sequence[Mapping[str, float]], n_rows: int) -> None:
        """Add the rows of seeds that are done; the file is written whole or not at all.

        :param rows: all with the same columns as those there are
        :param n_rows: of each seed; what is there of seeds that aren't done goes
        """
        new = {row["seed"] for row in rows}
        together = [*(row for row in self.results(n_rows) if row["seed"] not in new), *rows]
        together.sort(key=lambda row: row["seed"])
        with replacing(self.progress) as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(together[0]))
            writer.writeheader()
            writer.writerows({key: f"{value:.7g}" for key, value in row.items()} for row in together)
