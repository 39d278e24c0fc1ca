"""Online normalisation: features are normalised by statistics of the stream, one sample after another."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from cppo.checks import BELOW_ONE, LARGEST, check_count, check_number

CHUNK = 256
"""Number of samples whose recurrence is solved as one matrix product."""


class OnlineNorm(nn.Module):
    """Normalises each feature (channel) by running statistics of the samples before, for any size of batch.

    The samples of a batch are a stream: each is normalised by the mean and variance of those before it, then enters
    them. The gradient doesn't follow the statistics; instead two control processes keep it orthogonal to the output
    and to the constant, in the long run. After scale and shift the sample is divided by its root mean square over all
    features (layer scaling), which keeps the network bounded while the statistics lag behind.

    Source: Chiley et al., "Online Normalization for Training Neural Networks", NeurIPS 2019, and its authors' code
    (Cerebras/online-normalization) for the order of scale, shift and layer scaling, and the defaults. The result is the
    one of going through the samples one by one; the recurrences are solved a batch at a time. In evaluation mode the
    statistics stay.

    :param num_features: features, or channels, of an input of shape (samples, num_features, ...)
    :param forward_decay: decay of mean and variance
    :param backward_decay: decay of the control processes
    :param eps: added to variances
    :param layer_scaling: divide by the root mean square of the sample
    :raises TypeError: for a size that is no whole number
    :raises ValueError: for a value out of range, and for an input of another number of features
    """

    running_mean: Tensor
    running_var: Tensor
    control_mean: Tensor
    control_var: Tensor

    def __init__(
        self,
        num_features: int,
        forward_decay: float = 0.999,
        backward_decay: float = 0.99,
        eps: float = 1e-5,
        layer_scaling: bool = True,
    ) -> None:
        super().__init__()
        check_count("num_features", num_features)
        check_number("forward_decay", forward_decay, 0, BELOW_ONE, "a number from 0 to less than 1")
        check_number("backward_decay", backward_decay, 0, BELOW_ONE, "a number from 0 to less than 1")
        check_number("eps", eps, 0, LARGEST, "a number, 0 or more")
        self.num_features = num_features
        self.forward_decay, self.backward_decay = forward_decay, backward_decay
        self.eps, self.layer_scaling = eps, layer_scaling
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        for name, value in (("running_mean", 0.0), ("running_var", 1.0), ("control_mean", 0.0), ("control_var", 0.0)):
            self.register_buffer(name, torch.full((num_features,), value))

    def extra_repr(self) -> str:
        """What ``repr`` shows."""
        return f"{self.num_features}, forward_decay={self.forward_decay}, backward_decay={self.backward_decay}"

    def forward(self, features: Tensor) -> Tensor:
        """Normalise, scale, shift; in training mode also update the statistics."""
        if features.ndim < 2 or features.shape[1] != self.num_features:
            raise ValueError(
                f"OnlineNorm({self.num_features}) needs an input of shape (samples, {self.num_features}, ...), "
                f"not {tuple(features.shape)}"
            )
        shape = (1, -1, *[1] * (features.ndim - 2))
        if self.training:
            normalised = _Normalise.apply(features, self)
        else:
            scale = (self.running_var + self.eps).sqrt()
            normalised = (features - self.running_mean.view(shape)) / scale.view(shape)
        output = normalised * self.weight.view(shape) + self.bias.view(shape)
        if not self.layer_scaling:
            return output
        mean_square = output.square().flatten(1).mean(dim=1)
        return output * torch.rsqrt(mean_square + self.eps).view(-1, *[1] * (features.ndim - 1))


class _Normalise(torch.autograd.Function):
    """The normalisation of a batch in training mode, with the gradient as the control processes make it."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, norm: OnlineNorm) -> Tensor:
        decay = norm.forward_decay
        positions = features.flatten(2) if features.ndim > 2 else features.unsqueeze(2)
        mean = _over_positions(positions)
        means, last_mean = leaky_sums((1 - decay) * mean, norm.running_mean, decay)
        gains = decay * (1 - decay) * (mean - means).square()
        if positions.shape[2] > 1:
            gains += (1 - decay) * positions.var(dim=2, unbiased=False)
        variances, last_variance = leaky_sums(gains, norm.running_var, decay)
        norm.running_mean.copy_(last_mean)
        norm.running_var.copy_(last_variance)
        scale = (variances + norm.eps).sqrt().unsqueeze(2)
        output = (positions - means.unsqueeze(2)) / scale
        ctx.norm = norm
        ctx.save_for_backward(output, scale)
        return output.view(features.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        output, scale = ctx.saved_tensors
        norm: OnlineNorm = ctx.norm
        gain = 1 - norm.backward_decay
        along_output = gradient.reshape(output.shape)
        controls, last = linear_recurrence(
            1 - gain * _over_positions(output.square()), _over_positions(along_output * output), norm.control_var
        )
        norm.control_var.copy_(last)
        along_mean = (along_output - gain * controls.unsqueeze(2) * output) / scale
        controls, last = leaky_sums(_over_positions(along_mean), norm.control_mean, norm.backward_decay)
        norm.control_mean.copy_(last)
        return (along_mean - gain * controls.unsqueeze(2)).view(gradient.shape), None


def _over_positions(features: Tensor) -> Tensor:
    """Mean over the last axis; one position alone, as behind a linear layer, needs no reduction."""
    return features.squeeze(2) if features.shape[2] == 1 else features.mean(dim=2)


def leaky_sums(inputs: Tensor, start: Tensor, decay: float) -> tuple[Tensor, Tensor]:
    """Solve s_t = decay * s_(t-1) + inputs_t.

    :param inputs: shape (samples, features)
    :param start: s before the first sample, shape (features,)
    :return: s before each sample, of the inputs' shape, and s after the last one
    """
    before = []
    for chunk in inputs.split(CHUNK):
        powers, weights = _leak(len(chunk), decay, chunk.dtype, chunk.device)
        sums = torch.addmm(powers.unsqueeze(1) * start, weights, chunk)
        before.append(sums[:-1])
        start = sums[-1]
    return torch.cat(before) if before else inputs, start


@lru_cache(maxsize=16)
def _leak(count: int, decay: float, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """The factors by which the start and each input count after 0 to ``count`` steps."""
    steps = torch.arange(count + 1, dtype=torch.float64)
    passed = steps.unsqueeze(1) - steps[1:]
    weights = torch.where(passed >= 0, decay ** passed.clamp(min=0), 0)
    return (decay**steps).to(device, dtype), weights.to(device, dtype)


def linear_recurrence(factors: Tensor, inputs: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Solve s_t = factors_t * s_(t-1) + inputs_t by doubling: after k rounds each s knows 2^k samples.

    :param factors: shape (samples, features)
    :param inputs: of the same shape
    :param start: s before the first sample, shape (features,)
    :return: s before each sample, of the same shape, and s after the last one
    """
    reach = 1
    while reach < len(inputs):
        inputs = torch.cat([inputs[:reach], inputs[reach:] + factors[reach:] * inputs[:-reach]])
        factors = torch.cat([factors[:reach], factors[reach:] * factors[:-reach]])
        reach *= 2
    after = factors * start + inputs
    sums = torch.cat([start.unsqueeze(0), after])
    return sums[:-1], sums[-1]
