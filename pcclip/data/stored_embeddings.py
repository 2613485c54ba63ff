"""Image embeddings that were computed elsewhere, in `.npy` files: arrays (N, D) with one row per image."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pcclip.data.labelled import ImageFile
from pcclip.data.pictures import UnreadableImageError
from pcclip.paths import existing_file, matching_files

TOLERANCE = 0.01  # of the length of unit embeddings, whose float16 values are rounded
BLOCK = 4096  # rows that are read at a time
Embeddings = NDArray[np.floating]


def open_embeddings(pattern: str, what: str) -> list[tuple[Path, Embeddings]]:
    """Open `.npy` files without reading them into memory.

    Args:
        pattern: See `pcclip.paths.matching_files`.
        what: See `matching_files`.

    Returns:
        Each file with its array (N, D). D is the same for all.

    Raises:
        FileNotFoundError: No file matches.
        ValueError: A file is not an array of floats (N, D), or has another width than the first.
    """
    opened = [(file, open_array(file)) for file in matching_files(pattern, what)]
    first, width = opened[0][0], opened[0][1].shape[1]
    for file, array in opened:
        if array.shape[1] != width:
            raise ValueError(
                f"{file}: embeddings of width {array.shape[1]}, but {first} has width {width}; one image tower must have "
                "made all files"
            )
    return opened


def open_array(file: str | Path) -> Embeddings:
    """Open one `.npy` file, an array (N, D); see `open_embeddings`."""
    try:
        array: Embeddings = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        # numpy takes every other file for a pickle, and advises to load that
        reason = "" if "pickle" in str(error) else f" ({error})"
        raise ValueError(f"{file}: not a .npy array of numbers{reason}; save it with numpy.save") from error
    if not (isinstance(array, np.ndarray) and array.ndim == 2 and array.dtype.kind == "f" and array.size):
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "several arrays"
        raise ValueError(f"{file}: holds {found}, expected floats (N, D), one embedding per row")
    return array


def read_row(file: str | Path, row: int) -> Embeddings:
    """Return one embedding (D,) of a file. Recently used files stay open.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: As `open_embeddings`, or the file has no such row.
    """
    array = _opened(str(file), Path(file).stat().st_mtime_ns)
    if row >= len(array):
        raise ValueError(f"{file}: no row {row}; it has the rows 0 to {len(array) - 1}")
    return array[row]


@lru_cache(maxsize=64)
def _opened(file: str, changed: int) -> Embeddings:
    return open_array(file)


def unit(rows: Embeddings) -> NDArray[np.float32]:
    """Return embeddings (..., D) with unit length. Rows without a direction (zeros, NaN, infinity) become NaN."""
    values = np.asarray(rows, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


def count_other_lengths(rows: Embeddings) -> int:
    """Return how many embeddings (N, D) are not of unit length, without zeros and those that are not finite."""
    count = 0
    for start in range(0, len(rows), BLOCK):
        lengths = np.linalg.norm(np.asarray(rows[start : start + BLOCK], np.float64), axis=-1)
        count += int((np.isfinite(lengths) & (lengths > 0) & (np.abs(lengths - 1) > TOLERANCE)).sum())
    return count


@dataclass(frozen=True, slots=True)
class StoredEmbedding(ImageFile):
    """An image with a stored embedding but no picture. `path` is the `.npy` file, and `offset` the row in it.

    Attributes:
        width: Width D of the embedding.
    """

    width: int = 0

    def embedding(self) -> NDArray[np.float32]:
        """Return the unit embedding (D,), NaN if it has no direction."""
        return unit(read_row(self.path, self.offset or 0))

    def decode(self, within: int | None = None) -> Image.Image:
        """Raise: there is no picture.

        Raises:
            UnreadableImageError: Always.
        """
        raise UnreadableImageError(self.key, "is a stored embedding without a picture")


def stored_image(file: str, row: int) -> StoredEmbedding:
    """Return one row of a file as an image, with the key `FILE/ROW`; raise as `read_row`."""
    existing_file(file, f"stored embeddings with row {row}")
    return StoredEmbedding(file, f"{file}/{row}", offset=row, width=len(read_row(file, row)))


def stored_images(
    embeddings: Sequence[tuple[str | Path, Embeddings]], keys: Sequence[str], labels: Sequence[int | None] = ()
) -> list[StoredEmbedding]:
    """Return the rows of files as images, with a key and optionally a label for each row of all files."""
    rows = ((str(file), row, array.shape[1]) for file, array in embeddings for row in range(len(array)))
    return [
        StoredEmbedding(file, key, label, offset=row, width=width)
        for (file, row, width), key, label in zip(rows, keys, labels or [None] * len(keys), strict=True)
    ]
