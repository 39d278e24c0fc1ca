"""The command ``python -m cppo.benchmarks``."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cppo.benchmarks.plotting import choose, draw, read_results, table
from cppo.benchmarks.problem import Problem
from cppo.benchmarks.problems import PROBLEMS
from cppo.benchmarks.running import run_settings
from cppo.benchmarks.settings_flags import PlotFlags, flags_of, settings_of
from cppo.command_line import check_word, or_fail, parse, show_warnings_plainly
from cppo.files import naming, replacing

PROGRAM = "python -m cppo.benchmarks"
ACTIONS = ("run", "sweep", "plot")
USAGE = f"""usage: {PROGRAM} list
       {PROGRAM} PROBLEM run|sweep|plot [--help] [flags]

list    the problems and their learners
run     one setting, all its seeds
sweep   every combination of the values given, several for a flag
plot    a table and a figure of all results in a folder
"""


def main(args: Sequence[str] | None = None) -> int:
    """Run the command.

    :param args: the command line; by default that of the program
    """
    args = list(sys.argv[1:] if args is None else args)
    show_warnings_plainly(PROGRAM)
    if not args or args[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    if args == ["list"]:
        print(describe())
        return 0
    check_word(PROGRAM, "problem", args[0], [*PROBLEMS, "list"])
    check_word(PROGRAM, "action", args[1] if len(args) > 1 else "", ACTIONS)
    problem = PROBLEMS[args[0]]
    return plot(problem, args[2:]) if args[1] == "plot" else run(problem, args[1] == "sweep", args[2:])


def describe() -> str:
    """The problems and their learners with their presets."""
    lines = []
    for problem in PROBLEMS.values():
        lines += [f"{problem.name}: {problem.summary}"]
        for learner, preset in problem.settings.PRESETS.items():
            lines.append(f"  {learner:16} " + ", ".join(f"{key} {value}" for key, value in preset.items()))
    return "\n".join(lines)


def run(problem: Problem[Any], is_sweep: bool, args: Sequence[str]) -> int:
    """Run one setting or many, and print their table."""
    flags = flags_of(problem.settings, is_sweep)
    given = parse(flags, f"{PROGRAM} {problem.name} {'sweep' if is_sweep else 'run'}", problem.summary, args=args)
    root = given.output or Path("runs") / problem.name
    settings = or_fail(PROGRAM, settings_of, problem.settings, given, is_sweep)
    command = [PROGRAM, problem.name, "sweep" if is_sweep else "run", *args]
    or_fail(PROGRAM, run_settings, problem, settings, root, command, given.jobs)
    wanted = {each.name() for each in settings}
    results = [each for each in or_fail(PROGRAM, read_results, problem, root) if each.settings.name() in wanted]
    print(or_fail(PROGRAM, table, problem, results, 1), end="")
    print(f"results: {root}; figures: {PROGRAM} {problem.name} plot --results {shlex.quote(str(root))}")
    return 0


def plot(problem: Problem[Any], args: Sequence[str]) -> int:
    """Write table and figure."""
    flags = parse(PlotFlags, f"{PROGRAM} {problem.name} plot", "Draw results.", args=args)
    results = or_fail(PROGRAM, read_results, problem, flags.results)
    results = or_fail(PROGRAM, choose, results, flags.only)
    text = or_fail(PROGRAM, table, problem, results, flags.bin_width)
    image = flags.results / f"{flags.name}.png"
    or_fail(PROGRAM, _write, image.with_suffix(".md"), text)
    or_fail(PROGRAM, draw, problem, results, image, flags.bin_width, flags.units)
    print(text, end="")
    print(f"{image.with_suffix('.md')} {image}")
    return 0


def _write(path: Path, text: str) -> None:
    with naming(path), replacing(path) as partial:
        partial.write_text(text)
