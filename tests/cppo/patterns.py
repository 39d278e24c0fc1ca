"""Networks by the pattern of their layers: what is watched in them, and what is left out and why."""

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN
from torch import nn
from torch.nn import functional


class Net(nn.Module):
    """Layers by name, and a function of them and the input."""

    def __init__(self, forward, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self._forward = forward

    def forward(self, *inputs):
        return self._forward(self, *inputs)


def mlp(*between, width=6):
    return nn.Sequential(nn.Linear(4, width), *between, nn.Linear(width, 3))


def cnn(*between, features):
    return nn.Sequential(nn.Conv2d(2, 4, 3), *between, nn.Linear(features, 3))


def linear(**sizes):
    return {name: nn.Linear(*size) for name, size in sizes.items()}


BOX = spaces.Box(0, 255, (1, 36, 36), "uint8")
DICT = spaces.Dict({"image": BOX, "state": spaces.Box(-1, 1, (5,))})
VECTOR, IMAGE, SEQUENCE = (5, 4), (5, 2, 8, 8), (5, 2, 12)


def nature_cnn():
    return nn.Sequential(NatureCNN(BOX, features_dim=8), nn.Linear(8, 2))


def combined():
    extractor = CombinedExtractor(DICT, cnn_output_dim=8)
    return Net(lambda net, x: net.head(net.extractor(x)), extractor=extractor, head=nn.Linear(13, 2))


# name: (module, shape of its input, names of the layers that are watched)
PATTERNS = {
    "activation module": (lambda: mlp(nn.ReLU()), VECTOR, ["0"]),
    "activation in place": (lambda: mlp(nn.ReLU(inplace=True)), VECTOR, ["0"]),
    "prelu": (lambda: mlp(nn.PReLU(6)), VECTOR, ["0"]),
    "swish by hand": (
        lambda: Net(lambda n, x: n.b((h := n.a(x)) * torch.sigmoid(h)), **linear(a=(4, 6), b=(6, 3))),
        VECTOR,
        ["a"],
    ),
    "function with constants": (
        lambda: Net(lambda n, x: n.b(2 * torch.tanh(n.a(x) / 3).abs() ** 2 - 1), **linear(a=(4, 6), b=(6, 3))),
        VECTOR,
        ["a"],
    ),
    "linear units": (lambda: mlp(), VECTOR, ["0"]),
    "dropout": (lambda: mlp(nn.ReLU(), nn.Dropout(0.5)), VECTOR, ["0"]),
    "batch norm before the activation": (lambda: mlp(nn.BatchNorm1d(6), nn.ReLU()), VECTOR, ["0"]),
    "batch norm behind the activation": (lambda: mlp(nn.ReLU(), nn.BatchNorm1d(6)), VECTOR, ["0"]),
    "batch norm without weights": (lambda: mlp(nn.BatchNorm1d(6, affine=False), nn.ReLU()), VECTOR, ["0"]),
    "layers on a sequence": (lambda: mlp(nn.ReLU()), (5, 7, 4), ["0"]),
    "conv1d": (
        lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(20, 3)),
        SEQUENCE,
        ["0"],
    ),
    "conv3d": (
        lambda: nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.AvgPool3d(2), nn.Flatten(), nn.Linear(4, 3)),
        (5, 1, 4, 4, 4),
        ["0"],
    ),
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(80, 3)
        ),
        IMAGE,
        ["0", "2"],
    ),
    "max pooling": (lambda: cnn(nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), features=36), IMAGE, ["0"]),
    "average pooling": (lambda: cnn(nn.AvgPool2d(2), nn.ReLU(), nn.Flatten(), features=36), IMAGE, ["0"]),
    "adaptive pooling": (lambda: cnn(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), features=4), IMAGE, ["0"]),
    "upsampling": (
        lambda: cnn(nn.ReLU(), nn.Upsample(scale_factor=2, mode="bilinear"), nn.Flatten(), features=576),
        IMAGE,
        ["0"],
    ),
    "mean over space": (
        lambda: Net(lambda n, x: n.b(torch.relu(n.a(x)).mean((2, 3))), a=nn.Conv2d(2, 4, 3), b=nn.Linear(4, 3)),
        IMAGE,
        ["a"],
    ),
    "sum called by keywords": (
        lambda: Net(lambda n, x: n.b(torch.sum(input=torch.tanh(n.a(x)), axis=1)), **linear(a=(4, 6), b=(6, 3))),
        (5, 7, 4),
        ["a"],
    ),
    "maximum over positions": (
        lambda: Net(lambda n, x: n.b(torch.relu(n.a(x)).max(dim=1).values), **linear(a=(4, 6), b=(6, 3))),
        (5, 7, 4),
        ["a"],
    ),
    "batch norm in a cnn": (
        lambda: cnn(nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(3), nn.Flatten(), features=16),
        IMAGE,
        ["0"],
    ),
    "batch norm behind flattening": (
        lambda: cnn(nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(144), features=144),
        IMAGE,
        ["0"],
    ),
    "circular padding": (
        lambda: Net(
            lambda n, x: n.b(torch.relu(n.a(x))).mean((2, 3)),
            a=nn.Conv2d(2, 4, 3),
            b=nn.Conv2d(4, 3, 3, padding=1, padding_mode="circular"),
        ),
        IMAGE,
        ["a"],
    ),
    "view": (
        lambda: Net(
            lambda n, x: n.b(functional.relu_(n.a(x).view(len(x), -1))), a=nn.Conv2d(2, 4, 3), b=nn.Linear(144, 3)
        ),
        IMAGE,
        ["a"],
    ),
    "axes moved": (
        lambda: Net(lambda n, x: n.b(torch.relu(n.a(x)).permute(0, 2, 3, 1)), a=nn.Conv2d(2, 4, 3), b=nn.Linear(4, 3)),
        IMAGE,
        ["a"],
    ),
    "concatenation and several readers": (
        lambda: Net(
            lambda n, x: (n.actor(h := torch.relu(n.body(x))), n.critic(torch.cat([torch.tanh(n.extra(x)), h], 1))),
            **linear(body=(4, 6), extra=(4, 3), actor=(6, 2), critic=(9, 1)),
        ),
        VECTOR,
        ["body", "extra"],
    ),
    "norm of a concatenation": (
        lambda: Net(
            lambda n, x: n.head(n.norm(torch.cat([x, torch.tanh(n.extra(x)), torch.relu(n.body(x))], 1))),
            **linear(body=(4, 6), extra=(4, 3), head=(13, 2)),
            norm=nn.BatchNorm1d(13),
        ),
        VECTOR,
        ["extra", "body"],
    ),
    "inside of a residual block": (
        lambda: Net(
            lambda n, x: n.head((h := torch.relu(n.stem(x))) + n.back(torch.relu(n.inner(h)))),
            **linear(stem=(4, 4), inner=(4, 6), back=(6, 4), head=(4, 2)),
        ),
        VECTOR,
        ["inner"],
    ),
    "NatureCNN": (nature_cnn, (3, 1, 36, 36), ["0.cnn.0", "0.cnn.2", "0.cnn.4", "0.linear.0"]),
    "dict observations": (
        combined,
        None,
        [f"extractor.extractors.image.{name}" for name in ("cnn.0", "cnn.2", "cnn.4", "linear.0")],
    ),
    "layer norm": (lambda: mlp(nn.LayerNorm(6), nn.ReLU()), VECTOR, ["0"]),
    "rms norm": (lambda: mlp(nn.ReLU(), nn.RMSNorm(6)), VECTOR, ["0"]),
    "layer norm of an image": (
        lambda: cnn(nn.LayerNorm([4, 6, 6]), nn.ReLU(), nn.Flatten(), features=144),
        IMAGE,
        ["0"],
    ),
}
MIXING = ("layer norm", "rms norm", "layer norm of an image")
"""Through these every unit moves all others, so a unit's outgoing weights are not all that its features reach."""

BY_POSITION = ("batch norm behind flattening",)
"""These scale each position of a channel in its own way, so what a constant channel sends on isn't constant over space.
The bias takes over its mean over space, as it does for any feature map."""
