"""Report of many runs of several methods: ``python -m cppo.report --help``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from cppo.command_line import BAD_INPUT, fail, or_fail, parse, run
from cppo.files import check_ours, check_writable
from cppo.reading import one_line, shown
from cppo.report.comparison import Comparison, compare
from cppo.report.figures import check_matplotlib, write_figures
from cppo.report.film import check_film
from cppo.report.page import Film, write_page
from cppo.report.records import Record, distinct, same_task
from cppo.report.side_by_side import make_film
from cppo.report.tables import check_tables, text, write_tables
from cppo.report.trained_agent import TrainedAgent
from cppo_envs.arguments import whole_number

PROGRAM = "cppo.report"
DESCRIPTION = """Compare training runs by method: curves, returns by phase, statistics, one HTML page.

Runs of the same algorithm and settings are averaged, whatever their seeds."""


@dataclasses.dataclass(frozen=True)
class ReportFlags:
    """Flags of the command."""

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN...")]
    """Folders of training runs, or folders that hold such folders."""
    output: Path = Path("report")
    """Folder of the report; the page is index.html in it."""
    film: Annotated[tuple[float, ...], arg(metavar="F1 F2 ...")] = ()
    """Film the agent of lowest seed of each method on these ground frictions, for the page."""
    film_steps: int = 500
    """Film at most so many steps of each."""
    env_module: str | None = None
    """Module to import for a film, which registers the environment, as it was given to train.py."""
    film_seed: int = 1000
    """Seed of the episode in the films."""


def main(args: list[str] | None = None) -> None:
    """Read, compare, write; what can't be used is told on stderr, and the report covers the rest."""
    flags = parse(ReportFlags, PROGRAM, DESCRIPTION, args=args)
    or_fail(PROGRAM, check, flags)
    left_out: dict[str, str] = {}
    records = read(flags.runs, left_out)
    if not records:
        fail(PROGRAM, f"none of the runs can be read: {'; '.join(left_out.values())}")
    for name, reason in left_out.items():
        say(f"{name} is left out: {reason}")
    comparison = or_fail(PROGRAM, compare, records)
    for note in comparison.unfinished:
        say(note)
    or_fail(PROGRAM, write, flags, comparison, left_out)


def check(flags: ReportFlags) -> None:
    """Find bad input before the long work starts.

    :raises ValueError: for a flag out of range
    :raises gymnasium.error.DependencyNotInstalled: if matplotlib is missing
    :raises OSError: if the folder can't be written
    """
    whole_number("--film-steps", flags.film_steps, minimum=1)
    whole_number("--film-seed", flags.film_seed, minimum=0)
    if not flags.runs:
        raise ValueError("give the folder of at least one run")
    check_matplotlib("a report")
    check_writable(flags.output / "index.html")
    check_ours(flags.output / "index.html")
    check_tables(flags.output)


def read(paths: Iterable[Path], left_out: dict[str, str]) -> list[Record]:
    """Read the runs that can be compared.

    :param left_out: gets the reason for each that isn't used
    """
    records = []
    for path in dict.fromkeys(folder.resolve() for given in paths for folder in runs_in(given)):
        path = Path(path).relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        try:
            records.append(Record.read(path))
        except BAD_INPUT as error:
            left_out[shown(str(path))] = one_line(error)
    for choose in (distinct, same_task):
        records, reasons = choose(records)
        left_out |= reasons
    return records


def runs_in(path: Path) -> list[Path]:
    """The folder itself, or the runs directly in it."""
    return sorted(config.parent for config in path.glob("*/config.yaml")) or [path]


def write(flags: ReportFlags, comparison: Comparison, left_out: dict[str, str]) -> None:
    """Write the report and say where it is."""
    files = write_tables(flags.output, comparison) + write_figures(flags.output, comparison)
    page = flags.output / "index.html"
    write_page(page, comparison, make_films(flags, comparison), left_out)
    print(f"{text(comparison)}\n(return: interquartile mean [95 % interval] over the runs)")
    print(f"{page}: open it in a browser; {len(files)} pictures and tables beside it", flush=True)


def make_films(flags: ReportFlags, comparison: Comparison) -> list[Film]:
    """Film one agent of each method on each friction, all with the same seed and clock."""
    films = []
    for method in comparison.methods if flags.film else ():
        record = min(method.records, key=lambda record: record.settings.seed)
        try:
            agent = TrainedAgent.load(record.folder.path, flags.env_module)
            frictions = agent.grounds(flags.film)
            for friction in frictions:
                path = flags.output / f"{record.folder.path.name}-friction-{friction:g}.mp4"
                check_film(agent, friction, path)
                make_film({method.name: agent}, [friction], path, flags.film_seed, flags.film_steps)
                films.append(
                    Film(method.name, f"{method.name}, seed {record.settings.seed}, friction {friction:g}", path)
                )
        except BAD_INPUT as error:
            say(f"{record.name} is not filmed: {one_line(error)}")
    return films


def say(message: str) -> None:
    """Tell the user on stderr."""
    print(f"{PROGRAM}: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    run(main)
