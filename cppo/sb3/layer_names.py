"""What the layers of a policy are called in logs and charts, whatever is logged of them."""

import re
from collections import Counter

from stable_baselines3.common.policies import BasePolicy
from torch import nn

from cppo.layers.hidden_layer import LAYERS_WITH_UNITS
from cppo.layers.observe import unwrapped

SHORT_NAMES = (
    (r"^mlp_extractor\.policy_net\b", "actor"),
    (r"^mlp_extractor\.value_net\b", "critic"),
    (r"^(pi_|vf_|)features_extractor\b", lambda found: "critic.features" if found[1] == "vf_" else "features"),
    (r"\bfeatures_extractor\b", "features"),
    (r"\.(latent_pi|mu|cnn|linear|extractors)\b", ""),
    (r"^(\w+)\.\1\b", r"\1"),
    (r"(\.\d+)+$", ""),
)
"""From a module's path in a policy to the name of the network it is part of: ``mlp_extractor.policy_net.2`` is part of
``actor``, ``critic.qf0.0`` of ``critic.qf0``, ``q_net.q_net.0`` of ``q_net``."""


def layer_names(policy: BasePolicy) -> dict[nn.Module, str]:
    """Name every linear layer and convolution of a policy by its network and its number in it: ``actor.0``."""
    numbers: Counter[str] = Counter()
    names: dict[nn.Module, str] = {}
    for path, module in unwrapped(policy).named_modules():
        if isinstance(module, LAYERS_WITH_UNITS):
            network = network_name(path)
            names[module] = f"{network}.{numbers[network]}"
            numbers[network] += 1
    return names


def network_name(path: str) -> str:
    """The name of the network that a module is part of, from the module's path in a policy."""
    for pattern, name in SHORT_NAMES:
        path = re.sub(pattern, name, path)
    return path
