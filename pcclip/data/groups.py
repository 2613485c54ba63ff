"""Read groups from shards, with decoded images or embeddings."""

import io
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pcclip.data.damage import REASONS, Damage, DamagedGroupError
from pcclip.data.format import EMBEDDINGS_EXTENSION, IMAGE_EXTENSIONS, DatasetInfo
from pcclip.data.pictures import SHARD_FORMATS, OversizedImageError, UnreadableImageError, decode
from pcclip.data.record import GroupRecord, PairRecord, parse_group
from pcclip.data.tar_index import TarIndex

logger = logging.getLogger(__name__)

ImageTransform = Callable[[Image.Image], Tensor]
MAX_PIXELS = 50_000_000  # 150 MB decoded; photographs have up to a third of that


@dataclass(frozen=True)
class Sample:
    """One undecoded group of a shard.

    Attributes:
        where: Shard and key, for messages.
        key: Its key.
        members: Extension, such as `json` or `00.jpg`, to bytes.
        lost: Extension of each unreadable member, to the reason.
    """

    where: str
    key: str
    members: dict[str, bytes]
    lost: dict[str, str] = field(default_factory=dict)

    def record(self) -> GroupRecord:
        """Return the group's record.

        Raises:
            DamagedGroupError: The record is missing or not JSON.
            ValueError: Its content is wrong; see `parse_group`.
        """
        if "json" not in self.members:
            raise DamagedGroupError(self.lost.get("json", "missing_record"), self.where, "the .json")
        return parse_group(self.members["json"], self.where)


@dataclass
class Group:
    """One decoded group of G images.

    Attributes:
        key: Its key in the shard.
        ids: The images' ids.
        captions: Captions of each image.
        images: (G, 3, H, W) uint8, zeros where damaged; None in embedded shards.
        embeddings: (G, D) float32, unit; None in image shards.
        intact: (G,) bool, which images could be decoded.
        pairs: Ordered pairs of intact images.
        damaged: What could not be read.
        dataset: Key of the dataset, within which ids are unique; see `ShardFolder`.
    """

    key: str
    ids: list[str]
    captions: list[list[str]]
    images: Tensor | None
    embeddings: Tensor | None
    intact: Tensor
    pairs: list[PairRecord]
    damaged: list[Damage]
    dataset: str = ""


def read_groups(folder: str | Path, transform: ImageTransform | None = None) -> Iterator[Group]:
    """Yield all groups of a shard folder in order. Damaged groups are skipped with a warning.

    Args:
        folder: Shard folder with its `dataset.json`.
        transform: PIL image to (3, H, W) uint8; only for shards of images.

    Raises:
        FileNotFoundError: As `DatasetInfo.read`.
        ValueError: As `DatasetInfo.read` and `parse_group`, or images without a `transform`.
    """
    folder = Path(folder)
    info = DatasetInfo.read(folder)
    if info.kind == "images" and transform is None:
        raise ValueError(f"{folder}: holds images, which need an image transform; give one, or embedded shards")
    for shard in info.shards:
        for sample in read_samples(folder / shard.name, shard.groups):
            try:
                group = decode_group(sample, sample.record(), transform)
            except DamagedGroupError as error:
                logger.warning("%s; group skipped", error)
                continue
            for damage in group.damaged:
                logger.warning("%s: %s; its pairs are left out", damage.where, damage.reason)
            yield group


def read_samples(shard: Path, groups: int) -> Iterator[Sample]:
    """Yield the undecoded groups of a shard that has `groups` of them. Unreadable groups are skipped with a warning."""
    with TarIndex(shard) as index:
        for place in range(min(groups, len(index.entries))):
            try:
                yield read_sample(index, place)
            except DamagedGroupError as error:
                logger.warning("damaged shard: %s; group skipped", error)
        if (missing := groups - len(index.entries)) > 0:
            logger.warning("damaged shard: %s: %s; %d groups skipped", shard, REASONS[index.damage], missing)


def read_sample(index: TarIndex, place: int) -> Sample:
    """Return the undecoded group at a place of a shard.

    Raises:
        DamagedGroupError: As `TarIndex.read`.
    """
    members = index.read(place)
    entry = index.entries[place]
    return Sample(f"{index.path}: group {entry.key}", entry.key, members, entry.lost)


def decode_group(
    sample: Sample, record: GroupRecord, transform: ImageTransform | None, max_pixels: int = MAX_PIXELS
) -> Group:
    """Decode one group. Only JSON, the known image formats and plain `.npy` arrays are decoded.

    Args:
        sample: The group's bytes.
        record: Its parsed record.
        transform: PIL image to (3, H, W) uint8; None for embedded shards.
        max_pixels: Images with more pixels are not decoded.

    Raises:
        DamagedGroupError: The embeddings or all images are unreadable.
    """
    count = len(record["images"])
    images = embeddings = None
    if EMBEDDINGS_EXTENSION in sample.members:
        embeddings = decode_embeddings(sample, count)
        intact = embeddings.isfinite().all(-1)
        damaged = [Damage("damaged_row", f"{sample.where}: row {i}") for i in (~intact).nonzero().view(-1).tolist()]
        embeddings = torch.nn.functional.normalize(embeddings.nan_to_num(), dim=-1)
    elif transform is None:
        raise DamagedGroupError("broken_embeddings", sample.where, f"has no .{EMBEDDINGS_EXTENSION}")
    else:
        decoded = [_decode_image(sample, index, transform, max_pixels) for index in range(count)]
        damaged = [each for each in decoded if isinstance(each, Damage)]
        intact = torch.tensor([isinstance(each, Tensor) for each in decoded])
        if intact.any():
            blank = torch.zeros_like(next(each for each in decoded if isinstance(each, Tensor)))
            images = joined([each if isinstance(each, Tensor) else blank for each in decoded], torch.stack)
    if not intact.any():
        raise DamagedGroupError(damaged[0].reason, sample.where, f"none of its {count} images can be used")
    pairs = record["pairs"]
    if damaged:
        whole = intact.tolist()
        pairs = [pair for pair in pairs if whole[pair["first"]] and whole[pair["second"]]]
    return Group(
        key=sample.key,
        ids=[image["id"] for image in record["images"]],
        captions=[image["captions"] for image in record["images"]],
        images=images,
        embeddings=embeddings,
        intact=intact,
        pairs=pairs,
        damaged=damaged,
    )


@lru_cache(maxsize=64)
def _npy_header(header: bytes) -> tuple[np.dtype[np.float32], tuple[int, ...]]:
    """Return type and shape from the header of a `.npy`. Cached: headers are slow to parse, and nearly all are equal."""
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(io.BytesIO(header))
    if fortran_order or dtype.kind != "f":
        raise ValueError(f"{dtype}, expected floats by rows")
    return dtype, shape


def decode_embeddings(sample: Sample, count: int) -> Tensor:
    payload = sample.members[EMBEDDINGS_EXTENSION]
    try:
        # `np.load` would also open zip archives, and allocate as much memory as the header says.
        if not payload.startswith(b"\x93NUMPY\x01\x00"):
            raise ValueError("not a .npy of version 1")
        start = 10 + int.from_bytes(payload[8:10], "little")
        dtype, shape = _npy_header(payload[8:start])
        if len(shape) != 2 or shape[0] != count:
            raise ValueError(f"{dtype} {shape}, expected floats ({count}, D)")
        if len(payload) - start != count * shape[1] * dtype.itemsize:
            raise ValueError(f"{len(payload)} bytes do not hold {dtype} {shape}")
        array = np.frombuffer(payload, dtype, offset=start).reshape(shape)
    except (ValueError, TypeError, RecursionError, MemoryError) as error:
        raise DamagedGroupError("broken_embeddings", sample.where, f"{EMBEDDINGS_EXTENSION}: {error}") from error
    return torch.from_numpy(array.astype(np.float32))


def _decode_image(sample: Sample, index: int, transform: ImageTransform, max_pixels: int) -> Tensor | Damage:
    where = f"{sample.where}: image {index}"
    names = [f"{index:02d}.{extension}" for extension in IMAGE_EXTENSIONS]
    payload = next((sample.members[name] for name in names if name in sample.members), None)
    if payload is None:
        return Damage(next((sample.lost[name] for name in names if name in sample.lost), "missing_image"), where)
    try:
        return transform(decode(payload, "", tuple(SHARD_FORMATS), max_pixels))
    except UnreadableImageError as error:
        oversized = isinstance(error, OversizedImageError)
        return Damage("oversized_image" if oversized else "broken_image", f"{where} ({error.reason})")


def joined(parts: Sequence[Tensor], join: Callable[..., Tensor], storage: Tensor | None = None) -> Tensor:
    """Stack or concatenate images (..., 3, H, W) without changing their memory layout, which is channels last."""
    channels_last: Tensor = join([part.movedim(-3, -1) for part in parts], out=storage)
    return channels_last.movedim(-1, -3)
