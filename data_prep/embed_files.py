"""The files of step `embed`: the folder of a run that is not finished yet, and the shards being written in it."""

from __future__ import annotations

import io
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import webdataset as wds
from numpy.typing import NDArray

from data_prep.manifest import Manifest
from data_prep.partial import PartialFolder
from pcclip.atomic import atomic_path
from pcclip.data.format import EMBEDDINGS_EXTENSION, DatasetInfo, EmbeddingInfo, ShardInfo, parse_group, sha256_of


@dataclass(frozen=True)
class FinishedShard:
    """What was written of one shard."""

    shard: ShardInfo
    images: int
    pairs: int
    damaged: int


@dataclass(frozen=True)
class Work:
    """What is to be done.

    Attributes:
        source: Folder of image shards.
        read: Its `dataset.json`.
        embedding: The tower.
        manifest: The run's manifest, without counts.
        partial: Where the embedded shards are written until all are there.
    """

    source: Path
    read: DatasetInfo
    embedding: EmbeddingInfo
    manifest: Manifest
    partial: PartialFolder

    def begin(self) -> list[ShardInfo]:
        """Prepare the folder; return the shards still to be made."""
        plan = {
            "step_version": self.manifest.step_version,
            "inputs": self.manifest.inputs,
            "options": self.manifest.options,
        }
        self.partial.begin(plan)
        return [shard for shard in self.read.shards if self._finished(shard.name) is None]

    def _finished(self, name: str) -> FinishedShard | None:
        content = self.partial.recorded(name)
        return None if content is None else FinishedShard(**{**content, "shard": ShardInfo(**content["shard"])})

    def record(self, done: FinishedShard) -> None:
        """Remember a finished shard for restarts."""
        self.partial.record(done.shard.name, asdict(done))

    def end(self, finished: list[FinishedShard]) -> None:
        """Describe all shards, some `finished` now and the others before, and publish them."""
        fresh = {done.shard.name: done for done in finished}
        info = DatasetInfo("embeddings", self.read.group_size, 0, 0, [], self.embedding)
        damaged = 0
        for shard in self.read.shards:
            done = fresh.get(shard.name) or self._finished(shard.name)
            if done is None:
                raise FileNotFoundError(
                    f"{self.partial.shards / shard.name}: has gone while others were made; run again"
                )
            info.shards.append(done.shard)
            info.images += done.images
            info.pairs += done.pairs
            damaged += done.damaged
        if not info.groups:
            raise ValueError(f"{self.source}: not one group can be read; make the shards again")
        lost = self.read.groups - info.groups
        counts = {"groups": info.groups, "images": info.images, "pairs": info.pairs, "damaged_images": damaged}
        self.manifest.complete({**counts, "damaged_groups": lost})
        self.partial.publish(info, self.manifest, self.manifest.inputs)
        output = self.partial.output
        print(f"{output}: {info.groups} groups, {info.images} embeddings of width {self.embedding.width}")
        if damaged or lost:
            print(f"{output}: {damaged} images and {lost} whole groups could not be read")


class GroupInfo(NamedTuple):
    """What is known of a group before it is written.

    Attributes:
        key: Its key.
        json_bytes: Length of its JSON member.
        images: Number of its images.
        damaged: How many of them could not be decoded.
    """

    key: str
    json_bytes: int
    images: int
    damaged: int


class ShardFile:
    """An embedded shard being written, under a temporary name until it is finished."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(path))
            self._stream = stack.enter_context(temporary.open("wb"))
            self._open = stack.pop_all()
        self._tar = wds.TarWriter(self._stream, user="", group="", mtime=0, encoder=False)
        self._groups = self._images = self._pairs = self._damaged = 0

    def add(self, group: GroupInfo, payload: bytes, embeddings: NDArray[np.float16]) -> None:
        """Write a group: its JSON member as it was, and its embeddings (G, D)."""
        array = io.BytesIO()
        np.save(array, embeddings, allow_pickle=False)
        self._tar.write({"__key__": group.key, EMBEDDINGS_EXTENSION: array.getvalue(), "json": payload})
        self._groups += 1
        self._images += group.images
        self._pairs += len(parse_group(payload, f"{self._path}: group {group.key}")["pairs"])
        self._damaged += group.damaged

    def discard(self, error: BaseException) -> None:
        """Delete what has been written.

        Raises:
            OSError: `error` is about a full disk; names the shard.
        """
        self._open.__exit__(type(error), error, error.__traceback__)

    def finish(self) -> FinishedShard:
        """Give the shard its name."""
        self._tar.close()
        self._open.close()
        info = ShardInfo(self._path.name, self._groups, self._path.stat().st_size, sha256_of(self._path))
        return FinishedShard(info, self._images, self._pairs, self._damaged)
