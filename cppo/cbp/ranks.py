"""The processes of torch.distributed that train one module together, so that all of them replace the same units."""

import torch
import torch.distributed as dist
from torch import Tensor


class Ranks:
    """What the ranks share, where ``torch.distributed`` is initialised with several of them.

    Every rank must take the same number of optimizer steps, as ``DistributedDataParallel`` asks for anyway.
    """

    def __init__(self) -> None:
        self.several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1

    def share_seed(self, seed: int) -> int:
        """Rank 0's seed, so that every rank draws the same new units."""
        if not self.several:
            return seed
        seeds = [seed]
        dist.broadcast_object_list(seeds, src=0)
        return seeds[0]

    def average(self, averages: Tensor, sizes: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Average layers' unit averages over all ranks, each rank weighing as much as it has samples of the layer.

        :param averages: shape (n_units,), one layer after another; zero where this rank has no sample
        :param sizes: shape (n_layers,), number of units of each layer
        :param counts: shape (n_layers,), number of samples this rank has of each layer
        :return: the averages over all ranks and the samples of all ranks, the same bits on every rank
        """
        total = torch.cat([averages * counts.repeat_interleave(sizes), counts])
        dist.all_reduce(total, op=dist.ReduceOp.SUM)
        everyone = total[len(averages) :]
        return total[: len(averages)] / everyone.repeat_interleave(sizes).clamp(min=1), everyone
