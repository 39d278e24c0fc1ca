"""Online normalisation against the paper's procedure, one sample after another."""

import copy

import pytest
import torch
from torch import nn

from cppo.remedies import OnlineNorm


class OneByOne:
    """Chiley et al. 2019, section 3: equations 8 and 11 for the forward pass, algorithm 1 for the gradient."""

    def __init__(self, forward_decay, backward_decay):
        self.f, self.b = forward_decay, backward_decay
        self.mean, self.var, self.along_output, self.along_constant = 0.0, 1.0, 0.0, 0.0

    def normalise(self, samples):
        self.outputs, self.scales = [], []
        for sample in samples:
            scale = (self.var + 1e-5) ** 0.5
            self.outputs.append((sample - self.mean) / scale)
            self.scales.append(scale)
            mean, var = sample.mean(), sample.var(unbiased=False)
            self.var = self.f * self.var + (1 - self.f) * var + self.f * (1 - self.f) * (mean - self.mean) ** 2
            self.mean = self.f * self.mean + (1 - self.f) * mean
        return torch.stack(self.outputs)

    def gradient(self, gradients):
        result = []
        for output, scale, gradient in zip(self.outputs, self.scales, gradients, strict=True):
            gradient = gradient - (1 - self.b) * self.along_output * output
            self.along_output = self.along_output + (gradient * output).mean()
            gradient = gradient / scale - (1 - self.b) * self.along_constant
            self.along_constant = self.along_constant + gradient.mean()
            result.append(gradient)
        return torch.stack(result)


@pytest.mark.parametrize("batch", [1, 5, 300])
@pytest.mark.parametrize("positions", [(), (3, 2)])
def test_a_batch_is_a_stream_of_samples_forwards_and_backwards(batch, positions):
    torch.manual_seed(0)
    norm = OnlineNorm(2, 0.9, 0.8, layer_scaling=False).double()
    for parameter in norm.parameters():
        parameter.requires_grad_(False)
    one_by_one = [OneByOne(0.9, 0.8) for _ in range(2)]
    for _ in range(2):  # the second batch goes on with the statistics of the first
        x = (3 * torch.randn(batch, 2, *positions, dtype=torch.float64) + 1).requires_grad_()
        gradient = torch.randn_like(x)
        output = norm(x)
        output.backward(gradient)
        for feature, slow in enumerate(one_by_one):
            expected = slow.normalise(x[:, feature].detach())
            torch.testing.assert_close(output[:, feature], expected)
            torch.testing.assert_close(x.grad[:, feature], slow.gradient(gradient[:, feature]))
    torch.testing.assert_close(norm.running_mean, torch.stack([slow.mean for slow in one_by_one]))
    torch.testing.assert_close(norm.running_var, torch.stack([slow.var for slow in one_by_one]))


def test_the_first_sample_by_hand():
    norm = OnlineNorm(1, forward_decay=0.5, eps=0.0, layer_scaling=False)
    assert norm(torch.tensor([[4.0], [4.0]])).flatten().tolist() == pytest.approx([(4 - 0) / 1, (4 - 2) / 4.5**0.5])
    # mean: 0 -> 2 -> 3; variance: 0.5 * 1 + 0.25 * (4 - 0)^2 = 4.5, then 0.5 * 4.5 + 0.25 * (4 - 2)^2 = 3.25
    assert (norm.running_mean.item(), norm.running_var.item()) == pytest.approx((3, 3.25))


def test_layer_scaling_gives_each_sample_the_root_mean_square_one():
    output = OnlineNorm(50)(7 * torch.randn(4, 50) + 3)
    assert output.square().mean(dim=1).tolist() == pytest.approx([1, 1, 1, 1], rel=1e-3)


def test_a_stream_ends_up_with_mean_zero_and_variance_one():
    torch.manual_seed(0)
    norm = OnlineNorm(1, forward_decay=0.99, layer_scaling=False)
    output = norm(2 * torch.randn(5000, 1) + 10)[1000:]
    assert output.mean().item() == pytest.approx(0, abs=0.05)
    assert output.std().item() == pytest.approx(1, abs=0.05)


def test_evaluation_leaves_the_statistics_and_uses_them():
    norm = OnlineNorm(3)
    norm(torch.randn(64, 3))
    norm.eval()
    before = copy.deepcopy(norm.state_dict())
    x = torch.randn(8, 3)
    assert torch.equal(norm(x), norm(x))
    assert torch.equal(norm(x)[2:4], norm(x[2:4]))
    assert all(torch.equal(before[name], value) for name, value in norm.state_dict().items())


def test_scale_and_shift_learn():
    net = nn.Sequential(nn.Linear(3, 6), OnlineNorm(6), nn.ReLU(), nn.Linear(6, 1))
    net(torch.randn(10, 3)).square().sum().backward()
    assert net[1].weight.grad.abs().sum() > 0 and net[1].bias.grad.abs().sum() > 0


def test_a_wrong_input_is_named():
    with pytest.raises(ValueError, match=r"shape \(samples, 3, ...\), not \(3,\)"):
        OnlineNorm(3)(torch.ones(3))
    with pytest.raises(ValueError, match="forward_decay=1"):
        OnlineNorm(3, forward_decay=1.0)
