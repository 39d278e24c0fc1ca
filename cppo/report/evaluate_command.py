"""The command that evaluates: ``cppo evaluate``, or ``python evaluate.py`` in a clone."""

from collections.abc import Mapping
from typing import Any

from cppo.command_line import or_fail, parse, program, show_warnings_plainly
from cppo.report.evaluate_flags import EvaluateFlags, prepare
from cppo.report.evaluation import evaluate, run_record, table, write_json
from cppo.report.friction_plot import Evaluation, write_plot
from cppo.report.probe import probe
from cppo.report.retention import RULE, columns, retentions
from cppo.report.side_by_side import make_film
from cppo.report.trained_agent import TrainedAgent

PROGRAM, DESCRIPTION = program("evaluate"), "Evaluate the agent of a training run at each ground friction, and film it."


def evaluate_all(agents: Mapping[str, TrainedAgent], frictions: list[float | None], flags: EvaluateFlags) -> list[Any]:
    """Evaluate each agent, print its table, draw, and return the records."""
    evaluations: dict[str, Evaluation] = {}
    records = []
    for name, agent in agents.items():
        if flags.compare:
            print(name, flush=True)
        results = evaluate(agent, frictions, flags.episodes, flags.seed, not flags.stochastic, flags.episode_steps)
        kept = retentions(agent, results)
        evaluations[name] = results, kept
        print(table(results, columns(kept)), flush=True)
        records.append(run_record(agent, results, not flags.stochastic) | {"retention": [k._asdict() for k in kept]})
        if flags.probe:
            found = probe(agent, frictions[-1], flags.probe_targets, flags.probe_steps, flags.seed)
            print(found.table(), flush=True)
            records[-1]["probe"] = found.as_dict()
    if any(columns(kept) for _, kept in evaluations.values()):
        print(RULE, flush=True)
    if flags.plot is not None:
        write_plot(flags.plot, evaluations)
    return records


def main(args: list[str] | None = None) -> None:
    """Parse, build, evaluate; then write and film."""
    show_warnings_plainly(PROGRAM)
    flags = parse(EvaluateFlags, PROGRAM, DESCRIPTION, args=args)
    agents, frictions = or_fail(PROGRAM, prepare, flags)
    records = or_fail(PROGRAM, evaluate_all, agents, frictions, flags)
    if flags.json is not None:
        or_fail(PROGRAM, write_json, flags.json, records)
    if flags.video is not None:
        or_fail(PROGRAM, make_film, agents, frictions, flags.video, flags.seed, flags.video_steps, not flags.stochastic)
