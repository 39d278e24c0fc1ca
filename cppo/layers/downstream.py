"""Where units go after a trace has lost sight of them: into other layers, or straight out of the network."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn


class Downstream:
    """Tells the outputs of a network from hidden units that something reads which isn't understood.

    What depends on lost units is marked, whatever is done to it. Where a parameter meets it, the units were hidden.

    :ivar feeding: numbers of the layers whose units, lost sight of, met a parameter
    """

    def __init__(self) -> None:
        self.feeding: set[int] = set()
        self._marked: dict[int, tuple[Tensor, set[int]]] = {}
        self._of_parameters: dict[int, Tensor] = {}

    def mark(self, tensors: Iterable[Tensor], layers: set[int]) -> None:
        """These tensors depend on units of these layers. Holding a tensor keeps its id its own."""
        for tensor in tensors:
            self._marked[id(tensor)] = tensor, layers | self._marked.get(id(tensor), (tensor, set()))[1]

    def follow(self, given: Iterable[object], outputs: Iterable[Tensor]) -> None:
        """A function was called: what depends on marked tensors is marked, what is made of parameters only is noted."""
        tensors = [value for value in given if isinstance(value, Tensor)]
        of_parameters = [isinstance(value, nn.Parameter) or id(value) in self._of_parameters for value in tensors]
        if tensors and all(of_parameters):
            self._of_parameters |= {id(output): output for output in outputs}
        layers = set().union(*(self._marked[id(value)][1] for value in tensors if id(value) in self._marked))
        if layers:
            if any(of_parameters):
                self.feeding |= layers
            self.mark(outputs, layers)
