"""Reading group shards: from tar members to groups of decoded images or embeddings."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset as wds
from PIL import Image
from torch import Tensor

from pcclip.data.format import (
    EMBEDDINGS_EXTENSION,
    IMAGE_EXTENSIONS,
    DamagedGroupError,
    DatasetInfo,
    PairRecord,
    parse_group,
)

logger = logging.getLogger(__name__)

ImageTransform = Callable[[Image.Image], Tensor]
Sample = dict[str, Any]  # a webdataset sample: extension -> bytes, with `__key__` and `__url__`


@dataclass
class Group:
    """One decoded group of G images.

    Attributes:
        key: Its key in the shard.
        ids: The images' ids.
        captions: Captions of each image.
        images: (G, 3, H, W) uint8, zeros where damaged; None in embedded shards.
        embeddings: (G, D) float32, unit; None in image shards.
        intact: (G,) bool: which images could be decoded.
        pairs: The ordered pairs whose two images are intact.
    """

    key: str
    ids: list[str]
    captions: list[list[str]]
    images: Tensor | None
    embeddings: Tensor | None
    intact: Tensor
    pairs: list[PairRecord]


def read_groups(folder: str | Path, transform: ImageTransform | None = None) -> Iterator[Group]:
    """All groups of a shard folder in order, damaged ones left out with a warning.

    Args:
        folder: Shard folder with its `dataset.json`.
        transform: PIL image to (3, H, W) uint8; not needed for embedded shards.

    Raises:
        FileNotFoundError, ValueError: As `DatasetInfo.read` and `parse_group`.
    """
    folder = Path(folder)
    for shard in DatasetInfo.read(folder).shards:
        missing = shard.groups
        for sample in read_samples([folder / shard.name]):
            missing -= 1
            try:
                yield decode_group(sample, transform)
            except DamagedGroupError as error:
                logger.warning("%s; group skipped", error)
        warn_of_missing(folder / shard.name, missing)


def read_samples(shards: Iterable[Path]) -> Iterator[Sample]:
    """Undecoded group samples of shards, in order. What webdataset cannot read ends the shard with a warning."""

    def warn(error: Exception) -> bool:
        logger.warning("damaged shard: %s", error)
        return True

    for shard in shards:
        # Opened here, since webdataset's own opener takes some names for commands to run.
        with shard.open("rb") as stream:
            source = [{"url": str(shard), "stream": stream}]
            files = wds.tariterators.tar_file_expander(source, handler=warn)
            yield from wds.tariterators.group_by_keys(files, handler=warn)


def warn_of_missing(shard: Path, groups: int) -> None:
    """Say that a shard ended before its groups did: a tar reader takes a damaged header for the end."""
    if groups > 0:
        logger.warning("damaged shard: %s: %d of its groups cannot be reached; make the shard again", shard, groups)


def decode_group(sample: Sample, transform: ImageTransform | None) -> Group:
    """Decode one group sample. Only JSON, the known image formats and plain `.npy` arrays are ever decoded.

    Raises:
        DamagedGroupError: The JSON or the embeddings cannot be read, or no image can.
        ValueError: The group's content is wrong (see `parse_group`), or images are met without a `transform`.
    """
    where = f"{sample['__url__']}: group {sample['__key__']}"
    if "json" not in sample:
        raise DamagedGroupError(f"{where}: has no .json member")
    record = parse_group(sample["json"], where)
    count = len(record["images"])
    images = embeddings = None
    if EMBEDDINGS_EXTENSION in sample:
        embeddings = _decode_embeddings(sample[EMBEDDINGS_EXTENSION], count, where)
        intact = embeddings.isfinite().all(-1)
        embeddings = torch.nn.functional.normalize(embeddings.nan_to_num(), dim=-1)
    elif transform is None:
        raise ValueError(f"{where}: holds images, but no image transform was given; were embedded shards meant?")
    else:
        images, intact = _decode_images(sample, count, transform, where)
    if not intact.any():
        raise DamagedGroupError(f"{where}: none of its {count} images can be read")
    return Group(
        key=sample["__key__"],
        ids=[image["id"] for image in record["images"]],
        captions=[image["captions"] for image in record["images"]],
        images=images,
        embeddings=embeddings,
        intact=intact,
        pairs=[pair for pair in record["pairs"] if intact[pair["first"]] and intact[pair["second"]]],
    )


def _decode_embeddings(payload: bytes, count: int, where: str) -> Tensor:
    try:
        # Not `np.load`, which would open zip archives as well.
        array = np.lib.format.read_array(io.BytesIO(payload), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DamagedGroupError(f"{where}: {EMBEDDINGS_EXTENSION} cannot be read ({error})") from error
    if array.dtype.kind != "f" or array.ndim != 2 or len(array) != count:
        raise DamagedGroupError(
            f"{where}: {EMBEDDINGS_EXTENSION} is {array.dtype} {array.shape}, expected floats ({count}, D)"
        )
    return torch.from_numpy(array.astype(np.float32))


def _decode_images(sample: Sample, count: int, transform: ImageTransform, where: str) -> tuple[Tensor, Tensor]:
    decoded: list[Tensor | None] = []
    for index in range(count):
        payload = next(
            (
                sample[f"{index:02d}.{extension}"]
                for extension in IMAGE_EXTENSIONS
                if f"{index:02d}.{extension}" in sample
            ),
            None,
        )
        try:
            if payload is None:
                raise OSError("no such member")
            with Image.open(io.BytesIO(payload), formats=("JPEG", "PNG", "WEBP")) as image:
                decoded.append(transform(image))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            logger.warning("%s: image %d cannot be read (%s); its pairs are left out", where, index, error)
            decoded.append(None)
    intact = torch.tensor([image is not None for image in decoded])
    blank = next((torch.zeros_like(image) for image in decoded if image is not None), None)
    if blank is None:
        return torch.zeros(count, 3, 1, 1, dtype=torch.uint8), intact
    return torch.stack([blank if image is None else image for image in decoded]), intact
