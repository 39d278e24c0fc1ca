"""Where the classes come from: procedural ones, or a folder with an array or a folder of images for each."""

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cppo.benchmarks.images.procedural import SIZE, draw_class

Floats = NDArray[np.float32]

PROCEDURAL_CLASSES = 1000
SHAPE = (3, SIZE, SIZE)
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


class ProceduralClasses:
    """The thousand classes of ``procedural.py``."""

    count = PROCEDURAL_CLASSES

    def images(self, number: int, count: int) -> Floats:
        """The first images of a class."""
        return draw_class(number, count)


class FolderOfClasses:
    """Classes on disk: ``CLASS.npy`` of shape (images, 3, 32, 32), or a folder of image files for each.

    Bytes are taken as grey values and scaled to -1 ... 1, other numbers as they are. Image files are scaled to 32 x 32.

    :param folder: where they are
    :raises FileNotFoundError: if there are fewer than two classes
    """

    def __init__(self, folder: Path) -> None:
        arrays = sorted(folder.glob("*.npy"))
        folders = sorted(path for path in folder.glob("*") if path.is_dir())
        self._paths = arrays or folders
        if len(self._paths) < 2:
            raise FileNotFoundError(
                f"--data-dir {folder} holds no classes: there must be at least two files CLASS.npy or folders of images"
            )

    @property
    def count(self) -> int:
        """How many classes there are."""
        return len(self._paths)

    def images(self, number: int, count: int) -> Floats:
        """The first images of a class.

        :raises ValueError: if they are too few or no images
        """
        path = self._paths[number]
        images = _read_files(path, count) if path.is_dir() else _read_array(path)
        if images.shape[1:] != SHAPE or len(images) < count:
            raise ValueError(f"{path} holds {images.shape}, not at least {count} images of shape {SHAPE}")
        scaled = images[:count].astype(np.float32)
        return scaled / np.float32(127.5) - 1 if images.dtype == np.uint8 else scaled


def _read_array(path: Path) -> NDArray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} is no array: {error}") from error


def _read_files(folder: Path, count: int) -> NDArray[np.uint8]:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise ImportError("image files need pillow: pip install 'cppo[video]'") from error
    paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_ENDINGS][:count]
    images = np.zeros((len(paths), *SHAPE), np.uint8)
    for place, path in enumerate(paths):
        try:
            with Image.open(path) as image:
                images[place] = np.asarray(image.convert("RGB").resize((SIZE, SIZE))).transpose(2, 0, 1)
        except (UnidentifiedImageError, OSError) as error:
            raise ValueError(f"{path} is no image: {error}") from error
    return images


Classes = ProceduralClasses | FolderOfClasses


@lru_cache(maxsize=4)
def find_classes(data_dir: str | None) -> Classes:
    """The classes in a folder; the procedural ones for None."""
    return ProceduralClasses() if data_dir is None else FolderOfClasses(Path(data_dir))
