"""A layer has one name in all logs and charts."""

import pytest
import torch

from cppo import CPPO
from cppo.plasticity.policies import find_measured_layers
from cppo.sb3.layer_names import layer_names, network_name
from tests.cppo.agents import Target


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("features_extractor.cnn.2", "features"),
        ("features_extractor.linear.0", "features"),
        ("vf_features_extractor.cnn.0", "critic.features"),
        ("features_extractor.extractors.image.cnn.4", "features.image"),
        ("actor.features_extractor.cnn.0", "actor.features"),
        ("q_net.features_extractor.linear.0", "q_net.features"),
        ("q_net.q_net.0", "q_net"),
        ("actor.mu.0", "actor"),
        ("body.fc1", "body.fc1"),
    ],
)
def test_networks_are_named_by_their_place_in_the_policy(path, name):
    assert network_name(path) == name


def test_what_is_measured_and_what_is_replaced_have_one_name():
    """Also where the policy was compiled."""
    model = CPPO("MlpPolicy", Target(), seed=0, policy_kwargs={"net_arch": [4, 3]})
    measured = {layer.incoming: layer.name for layer in find_measured_layers(model.policy)}
    for policy in (model.policy, torch.compile(model.policy)):
        names = layer_names(policy)
        watched = {each.hidden_layer.incoming for each in model.continual_backprop.layers}
        assert {module: names[module] for module in watched} == measured
