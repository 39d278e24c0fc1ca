"""Arranges the charts that TensorBoard shows under "Custom Scalars"."""

from __future__ import annotations

from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat

Layout = dict[str, dict[str, list[str]]]
"""Titles of the charts by category, each with patterns of the tags it shows."""

SATURATED = "share of saturated units"
LEARNING: Layout = {
    "1. Does it still learn?": {
        "return of the episodes that ended, by update": [r"^episodes/return$"],
        "return, mean of the last 100 episodes": [r"^rollout/ep_rew_mean$"],
        "ground friction": [r"^environment/friction$"],
    }
}
PLASTICITY: Layout = {
    "2. Plasticity": {
        "share of dead units": [r"^plasticity/.*/dead_share$"],
        "share of dormant units": [r"^plasticity/.*/dormant_share$"],
        SATURATED: [r"^plasticity/.*/saturated_share$"],
        "effective rank": [r"^plasticity/.*/effective_rank$"],
        "stable rank": [r"^plasticity/.*/stable_rank$"],
        "weight magnitude": [r"^plasticity/.*/weight_magnitude$"],
        "distance from initialisation": [r"^plasticity/.*/distance_from_init$"],
        "gradient norm": [r"^plasticity/.*/gradient_norm$"],
        "size of the updates": [r"^plasticity/.*/update_size$"],
    }
}
CONTINUAL_BACKPROP: Layout = {
    "3. Continual backpropagation": {
        "replaced units, by update": [r"^cbp.*/replaced$"],
        "replaced units in all": [r"^cbp.*/total_replaced$"],
        "median age of the units": [r"^cbp_.*/age_median$"],
        "median utility of the units": [r"^cbp_.*/utility_median$"],
    }
}
OPTIMIZATION: Layout = {
    "4. Optimization": {
        "losses": [r"^train/(policy_gradient_loss|value_loss)$"],
        "exploration": [r"^train/(std|entropy_loss)$"],
        "size of the policy's change": [r"^train/(approx_kl|clip_fraction)$"],
    }
}


def write_layout(logger: Logger, is_continual: bool, activation: str) -> None:
    """Tell TensorBoard how to arrange the curves of a run.

    :param logger: of the run; nothing is done where it doesn't write for TensorBoard
    :param activation: of the hidden layers; only tanh can saturate
    """
    categories = LEARNING | PLASTICITY | (CONTINUAL_BACKPROP if is_continual else {}) | OPTIMIZATION
    layout = {
        category: {
            title: ["Multiline", tags] for title, tags in charts.items() if title != SATURATED or activation == "tanh"
        }
        for category, charts in categories.items()
    }
    for output in logger.output_formats:
        if isinstance(output, TensorBoardOutputFormat):
            output.writer.add_custom_scalars(layout)
