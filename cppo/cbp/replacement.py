"""Replacing units: what their weights become."""

from __future__ import annotations

import torch
from torch import Tensor

from cppo.cbp.initializers import Initializer
from cppo.layers.hidden_layer import VALUES_OF_NEW_NORMS, HiddenLayer


def redraw_incoming(layer: HiddenLayer, units: Tensor, initializer: Initializer, generator: torch.Generator) -> None:
    """Give units the incoming weights, bias and norm slices of new ones.

    :param layer: whose units they are
    :param units: their indices
    :param initializer: where the new weights come from
    :param generator: what they are drawn with
    """
    weights = layer.incoming_weights.view()
    weights.index_copy_(0, units, initializer(layer, len(units), generator).to(weights))
    if layer.incoming_bias is not None:
        layer.incoming_bias.view().index_fill_(0, units, 0)
    for part in layer.norm_slices:
        part.view().index_fill_(0, units, VALUES_OF_NEW_NORMS[part.name])


def silence_outgoing(layer: HiddenLayer, units: Tensor) -> None:
    """Set units' outgoing weights to zero, so that they change no output; do it after all incoming ones are redrawn."""
    for part in layer.outgoing_weights:
        part.view().index_fill_(part.axis, units, 0)
