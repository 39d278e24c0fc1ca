"""Arranges the charts that TensorBoard shows under "Custom Scalars": one for each layer and measure, a line a run."""

import re
from collections.abc import Iterable

from stable_baselines3 import PPO
from stable_baselines3.common.logger import TensorBoardOutputFormat

from cppo.plasticity.layers import MeasuredLayer
from cppo.plasticity.policies import find_measured_layers

Layout = dict[str, dict[str, list[str]]]
"""Titles of the charts by category, each with patterns of the tags it shows."""

LEARNING: Layout = {
    "1. Does it still learn?": {
        "return of the episodes that ended, by update": [r"^episodes/return$"],
        "return, mean of the last 100 episodes": [r"^rollout/ep_rew_mean$"],
        "ground friction": [r"^environment/friction$"],
    }
}
PLASTICITY = {
    "dead_share": "share of dead units",
    "dormant_share": "share of dormant units",
    "saturated_share": "share of saturated units",
    "effective_rank": "effective rank",
    "stable_rank": "stable rank",
    "weight_magnitude": "weight magnitude",
    "distance_from_init": "distance from initialisation",
    "gradient_norm": "gradient norm",
    "update_size": "size of the updates",
}
REPLACED: Layout = {
    "3. Continual backpropagation": {
        "replaced units, by update": [r"^cbp/replaced$"],
        "replaced units in all": [r"^cbp/total_replaced$"],
    }
}
CONTINUAL_BACKPROP = {
    "replaced": "replaced units, by update",
    "age_median": "median age of the units",
    "utility_median": "median utility of the units",
}
OPTIMIZATION: Layout = {
    "4. Optimization": {
        "loss of the policy": [r"^train/policy_gradient_loss$"],
        "loss of the value function": [r"^train/value_loss$"],
        "loss of the entropy": [r"^train/entropy_loss$"],
        "approximate KL divergence of an update": [r"^train/approx_kl$"],
        "share of clipped ratios": [r"^train/clip_fraction$"],
    }
}
EXPLORATION: Layout = {"5. Exploration": {"standard deviation of the actions": [r"^train/std$"]}}


def write_layout(model: PPO, with_plasticity: bool, is_continual: bool) -> None:
    """Tell TensorBoard how to arrange the curves of a run; nothing is done where its logger doesn't write for it.

    :param with_plasticity: whether it is measured
    :param is_continual: whether the run has continual backpropagation
    """
    layers = _layers(model) if with_plasticity or is_continual else []
    layout = LEARNING | (_plasticity(layers) if with_plasticity else {})
    if is_continual:
        layout |= REPLACED | _continual_backprop(layers)
    layout |= OPTIMIZATION | (EXPLORATION if hasattr(model.policy, "log_std") else {})
    charts = {
        category: {title: ["Multiline", tags] for title, tags in charts.items()}
        for category, charts in layout.items()
        if charts
    }
    for output in model.logger.output_formats:
        if isinstance(output, TensorBoardOutputFormat):
            output.writer.add_custom_scalars(charts)


def _layers(model: PPO) -> list[MeasuredLayer]:
    try:
        return find_measured_layers(model.policy)
    except ValueError:  # a policy that can't be traced, of which no layer is measured either
        return []


def _plasticity(layers: Iterable[MeasuredLayer]) -> Layout:
    return {
        f"2. Plasticity: {words}": {
            layer.name: [rf"^plasticity/{re.escape(layer.name)}/{measure}$"]
            for layer in layers
            if measure != "saturated_share" or layer.bounded
        }
        for measure, words in PLASTICITY.items()
    }


def _continual_backprop(layers: Iterable[MeasuredLayer]) -> Layout:
    watched = [layer.name for layer in layers if layer.record is not None]
    return {
        f"3. Continual backpropagation: {words}": {name: [rf"^cbp/{re.escape(name)}/{measure}$"] for name in watched}
        for measure, words in CONTINUAL_BACKPROP.items()
    }
