"""Batches of step `embed`: the images of shards, decoded."""

import logging
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from pcclip.data.damage import DamagedGroupError
from pcclip.data.format import DATASET_FILE, ShardInfo
from pcclip.data.groups import ImageTransform, Sample, decode_group, read_samples
from pcclip.paths import sha256_of

logger = logging.getLogger(__name__)


class GroupInfo(NamedTuple):
    """What is known of a group before it is written.

    Attributes:
        key: Its key.
        json_bytes: Length of its JSON member.
        images: Number of its images.
        damaged: How many of them could not be decoded.
        pairs: Number of its ordered pairs.
    """

    key: str
    json_bytes: int
    images: int
    damaged: int
    pairs: int


class Batch(NamedTuple):
    """Some groups of one shard.

    Attributes:
        shard: The shard's name.
        groups: The groups, in order.
        payloads: Their JSON members (bytes,) uint8, end to end. Bytes would go through a pipe, and the workers of a killed
            process wait for ever when theirs is full; tensors go through shared memory.
        images: Their images (B, 3, H, W) uint8.
        intact: (B,) bool: which of them could be decoded.
        last: Whether the shard ends here.
    """

    shard: str
    groups: list[GroupInfo]
    payloads: Tensor
    images: Tensor
    intact: Tensor
    last: bool


class ShardBatches(IterableDataset[Batch]):
    """Batches of shards, one shard after the other; workers take turns, so that the order does not depend on them."""

    def __init__(self, source: Path, shards: list[ShardInfo], transform: ImageTransform, groups_per_batch: int) -> None:
        self.source = source
        self.shards = shards
        self.transform = transform
        self.groups_per_batch = groups_per_batch

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        turn, turns = (0, 1) if worker is None else (worker.id, worker.num_workers)
        number = 0
        for shard in self.shards:
            for samples, last in _chunks(read_samples(self.source / shard.name, shard.groups), self.groups_per_batch):
                if number % turns == turn:
                    if last:
                        self._check(shard)
                    yield self._batch(shard.name, samples, last)
                number += 1

    def _check(self, shard: ShardInfo) -> None:
        """Check that a shard is the one that was packed. It has just been read, so the system still has it in memory."""
        path = self.source / shard.name
        if sha256_of(path) != shard.sha256:
            raise ValueError(
                f"{path}: damaged, its sha256 is not that of {DATASET_FILE}; copy it again, or make the shards again"
            )

    def _batch(self, shard: str, samples: list[Sample], last: bool) -> Batch:
        groups: list[GroupInfo] = []
        payloads: list[bytes] = []
        images: list[Tensor] = [torch.zeros(0)]
        intact: list[Tensor] = [torch.zeros(0, dtype=torch.bool)]
        for sample in samples:
            try:
                record = sample.record()
                group = decode_group(sample, record, self.transform)
            except DamagedGroupError as error:
                logger.warning("%s; group left out", error)
                continue
            assert group.images is not None
            payloads.append(bytes(sample.members["json"]))
            damaged = int((~group.intact).sum())
            groups.append(GroupInfo(group.key, len(payloads[-1]), len(group.ids), damaged, len(record["pairs"])))
            images.append(group.images)
            intact.append(group.intact)
        joined = torch.from_numpy(np.frombuffer(b"".join(payloads), np.uint8).copy())
        return Batch(shard, groups, joined, torch.cat(images[1:] or images), torch.cat(intact), last)


def _chunks(samples: Iterator[Sample], size: int) -> Iterator[tuple[list[Sample], bool]]:
    """Samples `size` at a time, and whether they are the last; one empty list if there are none at all."""
    chunk, following = list(islice(samples, size)), list(islice(samples, size))
    while following:
        yield chunk, False
        chunk, following = following, list(islice(samples, size))
    yield chunk, True
