"""What TensorBoard is told about the arrangement of a run's curves."""

import re

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from cppo.runs.folder import RunFolder
from cppo.settings.settings import Settings
from cppo.training.starting import prepare
from cppo.training.training import train

SMALL = {"net_arch": (8, 8), "n_envs": 1, "n_steps": 32, "batch_size": 16, "n_epochs": 1, "total_timesteps": 96}
SMALL |= {"plasticity_every": 1, "activation": "tanh"}  # ReLU has no saturated units


def charts_and_tags(folder, env: str, algo: str, **settings) -> tuple[dict[str, list[str]], list[str]]:
    """Train a little; return the patterns of the charts, by category and title, and the tags of the run."""
    resolved = Settings(env=env, algo=algo, **(SMALL | settings)).resolved()
    train(prepare(resolved, RunFolder(folder), []))
    events = EventAccumulator(str(folder)).Reload()
    layout = layout_pb2.Layout.FromString(events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    charts = {
        f"{part.title}/{chart.title}": list(chart.multiline.tag) for part in layout.category for chart in part.chart
    }
    return charts, events.Tags()["scalars"]


LAYERS = ["actor.0", "actor.1", "critic.0", "critic.1"]


def test_each_chart_shows_one_curve_a_run(tmp_path, scripted):
    """And every layer has one chart a measure, under one name."""
    charts, tags = charts_and_tags(tmp_path, scripted(lengths=(8,), phase_steps=32), "cppo")
    for title in charts:
        assert sum(bool(re.match(pattern, tag)) for tag in tags for pattern in charts[title]) == 1, title
    for category in (
        "2. Plasticity: share of saturated units",
        "3. Continual backpropagation: median age of the units",
    ):
        assert [title.split("/")[1] for title in charts if title.startswith(category)] == LAYERS


def test_units_that_cannot_saturate_have_no_chart_of_it(tmp_path, scripted):
    charts, _ = charts_and_tags(tmp_path, scripted(), "ppo", activation="relu")
    assert "2. Plasticity: share of dead units/actor.0" in charts
    assert not [title for title in charts if "saturated" in title]


def test_a_run_without_continual_backpropagation_has_no_charts_of_it(tmp_path, scripted):
    charts, _ = charts_and_tags(tmp_path, scripted(), "ppo")
    assert {title.split(".")[0] for title in charts} == {"1", "2", "4"}
