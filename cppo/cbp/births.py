"""How young each row and each column of a parameter is: a unit's weights are rows where they feed it, else columns."""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from cppo.layers.hidden_layer import UnitWeights


class BirthMap:
    """Finds when each row and each column of a parameter was last made new, given when each unit was.

    The units of all parts are numbered one part after another; ``born`` holds, for each of them, the step count of its
    parameter at which the unit was last replaced, or 0 for never.

    :param parts: every set of weights that belongs to the units of a layer
    """

    def __init__(self, parts: Sequence[UnitWeights]) -> None:
        ends = [0, *itertools.accumulate(part.n_units for part in parts)]
        self.n_units = ends[-1]
        self.spans = {part: slice(*pair) for part, pair in zip(parts, itertools.pairwise(ends), strict=True)}
        self.parameters = {part.parameter: None for part in parts}

    def spans_of(self, parameter: Tensor) -> list[slice]:
        """Where the units lie that have weights in a parameter."""
        return [span for part, span in self.spans.items() if part.parameter is parameter]

    def sources(self, parameter: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Number the unit that each row, and each column, of a parameter belongs to.

        Several layers of units may lie along one axis of a parameter, where several of them are read by one module or
        weights are shared: then there is one line for each.

        :return: shapes (lines, rows) and (lines, columns); ``n_units`` stands for no unit
        """
        shape = (*parameter.shape, 1, 1)[:2]
        lines = [[np.full(length, self.n_units)] for length in shape]
        for part, span in self.spans.items():
            if part.parameter is parameter:
                line = np.full(shape[part.axis], self.n_units)
                of_units = np.repeat(np.arange(span.start, span.stop), part.block)
                line[part.start : part.start + len(of_units)] = of_units
                lines[part.axis].append(line)
        return np.stack(lines[0]), np.stack(lines[1])

    def births(self, parameter: nn.Parameter, born: Tensor) -> tuple[Tensor, Tensor]:
        """Look up when the rows and the columns of a parameter were last made new; 0 for never."""
        padded = torch.cat([born, born.new_zeros(1)])
        rows, columns = (torch.from_numpy(lines).to(born.device) for lines in self.sources(parameter))
        return padded[rows].amax(dim=0), padded[columns].amax(dim=0)
