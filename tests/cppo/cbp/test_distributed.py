"""Two processes that train one module together replace the same units by the same ones."""

import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cppo import ContinualBackprop, HiddenLayer
from cppo.remedies import ReDo, ShrinkAndPerturb

RANKS = 2
STEPS = 30
OFTEN = {"replacement_rate": 0.05, "maturity_threshold": 5, "decay_rate": 0.9}
UTILITIES = ("contribution", "mean_corrected_contribution", "adaptable_contribution", "gradient", "random")
SCENARIOS = {
    **{f"even, {utility}": {"utility": utility} for utility in UTILITIES},
    **{f"uneven, {utility}": {"utility": utility, "sizes": (3, 7)} for utility in UTILITIES[:4]},
    "watched before it is wrapped": {"wrapped_first": False},
}


def build():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 2)).double()
    return net, torch.optim.Adam(net.parameters(), lr=1e-2)


def batches(sizes):
    """For each step one batch a rank; everyone knows all of them."""
    generator = torch.Generator().manual_seed(1)
    return [[torch.randn(size, 4, generator=generator, dtype=torch.float64) for size in sizes] for _ in range(STEPS)]


def state(net, cbp):
    """Everything that ranks must agree on."""
    return [*(p.detach() for p in net.parameters()), *cbp.buffers(), cbp.generator.get_state()]


def together(rank, sizes=(4, 4), utility="contribution", wrapped_first=True):
    """Train one rank's share, its loss weighed by its samples: so the mean over ranks is the mean over all samples."""
    net, optimizer = build()
    ddp = DistributedDataParallel(net) if wrapped_first else net
    cbp = ContinualBackprop(ddp, optimizer, **OFTEN, utility=utility, seed=rank)  # of these seeds that of rank 0 counts
    ddp = ddp if wrapped_first else DistributedDataParallel(net)
    for batch in batches(sizes):
        optimizer.zero_grad()
        (ddp(batch[rank]).pow(2).mean() * (RANKS * sizes[rank] / sum(sizes))).backward()
        optimizer.step()
    return state(net, cbp)


def alone(sizes=(4, 4), utility="contribution", wrapped_first=True):
    """Train on all ranks' samples in one process."""
    net, optimizer = build()
    cbp = ContinualBackprop(net, optimizer, **OFTEN, utility=utility, seed=0)
    for batch in batches(sizes):
        optimizer.zero_grad()
        net(torch.cat(batch)).pow(2).mean().backward()
        optimizer.step()
    assert cbp.total_replaced > 20
    return state(net, cbp)


class TwoWays(nn.Module):
    """A pass takes one of two ways, each through a hidden layer of its own."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.ModuleList(nn.Linear(4, 8) for _ in range(2))
        self.heads = nn.ModuleList(nn.Linear(8, 2) for _ in range(2))

    def forward(self, x, way):
        return self.heads[way](torch.tanh(self.hidden[way](x)))


def on_different_ways(rank):
    """Rank 1 goes the second way, but the first in every fifth step: so nobody sees the second layer then."""
    torch.manual_seed(0)
    net = TwoWays().double()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    layers = [HiddenLayer(net.hidden[way], [net.heads[way]], torch.tanh, name=f"way {way}") for way in range(2)]
    ddp = DistributedDataParallel(net, find_unused_parameters=True)
    cbp = ContinualBackprop(ddp, optimizer, **(OFTEN | {"replacement_rate": 0.02}), hidden_layers=layers)
    for number, batch in enumerate(batches((3, 5))):
        optimizer.zero_grad()
        ddp(batch[rank], way=0 if number % 5 == 0 else rank).square().mean().backward()
        optimizer.step()
    return state(net, cbp)


def with_remedies(ranks, seed, wrap=lambda net: net):
    """Train on some ranks' samples with remedies that must do the same everywhere."""
    net, optimizer = build()
    module = wrap(net)
    redo = ReDo(module, optimizer, threshold=0.7, every=5, seed=seed)
    ShrinkAndPerturb(module, optimizer, decay=0.01, noise=0.01, seed=seed)
    for batch in batches((3, 7)):
        optimizer.zero_grad()
        samples = torch.cat([batch[rank] for rank in ranks])
        (module(samples).pow(2).mean() * (RANKS / len(ranks) * len(samples) / 10)).backward()
        optimizer.step()
    assert redo.total_replaced > 10
    return state(net, redo)


def train(rank, port, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=RANKS)
    try:
        results = {name: together(rank, **arguments) for name, arguments in SCENARIOS.items()}
        results |= {"ways": on_different_ways(rank), "remedies": with_remedies([rank], rank, DistributedDataParallel)}
        torch.save(results, folder / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What each rank holds in the end, by scenario."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    mp.spawn(train, args=(port, folder), nprocs=RANKS)
    return [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_ranks_agree_with_each_other_and_with_one_process(results, scenario):
    """All ranks hold the same bits; and, but for rounding, those of one process that is given all samples."""
    expected = alone(**SCENARIOS[scenario])
    for first, second, single in zip(results[0][scenario], results[1][scenario], expected, strict=True):
        assert torch.equal(first, second)
        torch.testing.assert_close(first, single, rtol=1e-6, atol=1e-9)


def test_a_layer_that_only_one_rank_saw_is_treated_alike_on_both(results):
    assert all(torch.equal(a, b) for a, b in zip(results[0]["ways"], results[1]["ways"], strict=True))
    age, replaced = results[0]["ways"][8], results[0]["ways"][12]
    assert (age.shape, int(age[:8].max()), int(age[8:].max())) == ((16,), STEPS, STEPS - STEPS // 5)
    assert (replaced > 1).all()


def test_remedies_do_the_same_on_all_ranks_and_in_one_process(results):
    """Of one process the loss is the mean over all ten samples: RANKS / 2 * 10 / 10 = 1 times it."""
    for first, second, single in zip(*(each["remedies"] for each in results), with_remedies([0, 1], 0), strict=True):
        assert torch.equal(first, second)
        torch.testing.assert_close(first, single, rtol=1e-6, atol=1e-9)
