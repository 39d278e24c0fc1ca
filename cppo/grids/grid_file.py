"""A grid of runs read from a YAML file.

Each key is a setting of ``train.py``, with underscores; a list gives one run for each value, in all combinations:

    protocol: nature
    algo: [ppo, cppo-l2]
    seed: 0:10                        # 0 to 9; numbers, ranges, and lists of both
    replacement_rate: [1e-4, 1e-5]    # left out with ppo, where it has no effect
    net_arch: [256, 256]              # one value: a setting that is a list by itself takes a list of lists

What is not named comes from the protocol and the algorithm. An environment that a module registers which is yet to be
imported is named ``MODULE:ID``. A file may hold several grids, with a line ``---`` between them: combinations that no
single product gives.
"""

import dataclasses
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from cppo.grids.grid import MOST_RUNS, PlannedRun, expand, run_name, seeds
from cppo.settings.limits import check_type
from cppo.settings.settings import Settings, split_env

NUMBERS = {
    "int": re.compile(r"[-+]?[0-9][0-9_]*$"),
    "float": re.compile(
        r"[-+]?(?:[0-9][0-9_]*\.?[0-9]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?|\.?inf|\.nan)$"
    ),
}


class PlainLoader(yaml.SafeLoader):
    """YAML whose numbers are those of the command line: ``1e-4`` and ``inf`` are some, ``1:30`` is a range, not 90."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (as its parent has it)
        first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in NUMBERS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that stands there twice; YAML's own reader takes the last one in silence."""
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} stands there twice", node.start_mark)
        return super().construct_mapping(node, deep)

    def construct_plain_float(self, node: Any) -> float:
        """Read a number; ``inf`` needs no dot."""
        return float(str(self.construct_scalar(node)).replace(".inf", "inf").replace(".nan", "nan"))

    def construct_plain_int(self, node: Any) -> int:
        """Read a whole number; a leading 0 doesn't make it octal."""
        return int(str(self.construct_scalar(node)))


for tag, pattern in NUMBERS.items():
    PlainLoader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", pattern, list("-+0123456789.i"))
PlainLoader.add_constructor("tag:yaml.org,2002:float", PlainLoader.construct_plain_float)
PlainLoader.add_constructor("tag:yaml.org,2002:int", PlainLoader.construct_plain_int)


def read_grid(path: Path, env_module: str | None = None) -> list[PlannedRun]:
    """Read the runs of a grid from its file.

    :param env_module: the module to import for environments that the file names without one

    :raises OSError: if it can't be read
    :raises ValueError: if it is no grid; the message names the file, the key and what is allowed
    """
    try:
        with path.open() as file:  # its name is in the message of a syntax error
            runs = runs_of_all(list(yaml.load_all(file, PlainLoader)))
        return [dataclasses.replace(run, env_module=run.env_module or env_module) for run in runs]
    except OSError as error:
        raise OSError(f"{path} can't be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a grid of runs: {' '.join(str(error).split())}") from error


def runs_of_all(contents: Sequence[Any]) -> list[PlannedRun]:
    """Build the runs of several grids, each run once; their names tell apart all runs of the file.

    :raises ValueError: as ``runs_of``, and if there is no grid or too many runs
    """
    runs = list({run.settings: run for content in contents or [None] for run in runs_of(content)}.values())
    if len(runs) > MOST_RUNS:
        raise ValueError(f"a grid has at most {MOST_RUNS} runs, this one has {len(runs)}")
    keys = dict.fromkeys(key for content in contents for key in content)
    differing = [key for key in keys if len({getattr(run.settings, key) for run in runs} - {None}) > 1]
    return [dataclasses.replace(run, name=run_name(run.settings, differing)) for run in runs]


def runs_of(content: Any) -> list[PlannedRun]:
    """Build the runs of one grid.

    :param content: settings by name, with one value or a list of them
    :raises ValueError: for a key that is no setting, and for a value that is refused
    """
    if not isinstance(content, dict) or not content:
        raise ValueError(f"it must name settings with their values, like 'seed: 0:10', got {content!r}")
    kinds = get_type_hints(Settings)
    for key in content:
        if key not in kinds:
            raise ValueError(f"unknown key {key!r}; allowed are {', '.join(kinds)}")
    values = {key: values_of(key, value, kinds[key]) for key, value in content.items()}
    modules = {env_id: module for module, env_id in map(split_env, values.get("env", []))}
    if len(modules) < len(values.get("env", [])):
        raise ValueError(f"env names an environment twice, of several modules: {', '.join(values['env'])}")
    values |= {"env": list(modules)} if modules else {}
    protocols = values.pop("protocol", [Settings.protocol])
    algos = values.pop("algo", [Settings.algo])
    alone = {key: several[0] for key, several in values.items() if len(several) == 1}
    lists = {key: several for key, several in values.items() if key not in alone}
    bases = [Settings.from_preset(protocol, algo, **alone) for protocol, algo in itertools.product(protocols, algos)]
    runs = expand(bases, lists)
    return [dataclasses.replace(run, env_module=modules.get(run.settings.env)) for run in runs]


def values_of(key: str, value: Any, kind: Any) -> list[Any]:
    """List the values of a setting, as the setting's type has them, each once.

    :raises ValueError: for a value of another type
    """
    is_list = any(get_origin(part) is tuple for part in (kind, *get_args(kind)))
    listed = isinstance(value, list) and (not is_list or any(isinstance(item, list) for item in value))
    several = value if listed else [value]
    if not several:
        raise ValueError(f"{key} has no value: its list is empty")
    if key == "seed":
        return seeds(several)
    found = [tuple(item) if isinstance(item, list) else item for item in several]
    for item in found:
        check_type(key, item, kind)
        if item is None and getattr(Settings, key) is not None:
            raise ValueError(f"{key} needs a value")
    return [item for place, item in enumerate(found) if item not in found[:place]]
