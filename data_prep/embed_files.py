"""The files of step `embed`: the folder of a run that is not finished yet, and the shards being written in it."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import webdataset as wds
from numpy.typing import NDArray

from data_prep.manifest import Manifest
from pcclip.atomic import atomic_text
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
    """What is to be done, and the folder `<output>.partial` that tells what has been.

    It holds `plan.json` (what is being made of what), `shards/` and for each finished shard a file in `records/`.

    Attributes:
        source: Folder of image shards.
        read: Its `dataset.json`.
        output: Folder of embedded shards to write.
        embedding: The tower.
        manifest: The run's manifest, without counts.
    """

    source: Path
    read: DatasetInfo
    output: Path
    embedding: EmbeddingInfo
    manifest: Manifest

    @property
    def partial(self) -> Path:
        """The folder."""
        return self.output.with_name(self.output.name + ".partial")

    def shard_path(self, name: str) -> Path:
        """Where an embedded shard is written."""
        return self.partial / "shards" / name

    def record_path(self, name: str) -> Path:
        """Where a finished shard is recorded."""
        return self.partial / "records" / (name + ".json")

    def begin(self) -> list[ShardInfo]:
        """Prepare the folder, emptied if it was for other input or another tower; returns the shards still to be made."""
        plan = {
            "step_version": self.manifest.step_version,
            "inputs": self.manifest.inputs,
            "options": self.manifest.options,
        }
        file = self.partial / "plan.json"
        if not file.is_file() or json.loads(file.read_text(encoding="utf-8")) != plan:
            shutil.rmtree(self.partial, ignore_errors=True)
            with atomic_text(file) as stream:
                stream.write(json.dumps(plan))
        (self.partial / "shards").mkdir(exist_ok=True)
        return [shard for shard in self.read.shards if self._finished(shard.name) is None]

    def _finished(self, name: str) -> FinishedShard | None:
        file, path = self.record_path(name), self.shard_path(name)
        if not file.is_file():
            return None
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        done = FinishedShard(**{**record, "shard": ShardInfo(**record["shard"])})
        return done if path.is_file() and path.stat().st_size == done.shard.bytes else None

    def record(self, done: FinishedShard) -> None:
        """Remember a finished shard for restarts."""
        with atomic_text(self.record_path(done.shard.name)) as stream:
            stream.write(json.dumps(asdict(done)))

    def end(self, finished: list[FinishedShard]) -> None:
        """Describe all shards, some `finished` now and the others before, and give the folder its name."""
        fresh = {done.shard.name: done for done in finished}
        info = DatasetInfo("embeddings", self.read.group_size, 0, 0, [], self.embedding)
        damaged = 0
        for shard in self.read.shards:
            done = fresh.get(shard.name) or self._finished(shard.name)
            if done is None:
                raise FileNotFoundError(f"{self.shard_path(shard.name)}: has gone while others were made; run again")
            info.shards.append(done.shard)
            info.images += done.images
            info.pairs += done.pairs
            damaged += done.damaged
        if not info.groups:
            raise ValueError(f"{self.source}: not one group can be read; make the shards again")
        lost = self.read.groups - info.groups
        counts = {"groups": info.groups, "images": info.images, "pairs": info.pairs, "damaged_images": damaged}
        self.manifest.complete({**counts, "damaged_groups": lost})
        info.made_by = asdict(self.manifest)
        info.write(self.partial / "shards")
        # In this order, being killed in between costs no shard.
        shutil.rmtree(self.output, ignore_errors=True)
        self.manifest.write(self.output, self.manifest.counts)
        (self.partial / "shards").replace(self.output)
        shutil.rmtree(self.partial)
        print(f"{self.output}: {info.groups} groups, {info.images} embeddings of width {self.embedding.width}")
        if damaged or lost:
            print(f"{self.output}: {damaged} images and {lost} whole groups could not be read")


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
        self._temporary = path.with_name(path.name + ".tmp")
        self._stream = self._temporary.open("wb")
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

    def discard(self) -> None:
        """Delete what has been written."""
        self._tar.close()
        self._stream.close()
        self._temporary.unlink(missing_ok=True)

    def finish(self) -> FinishedShard:
        """Give the shard its name."""
        self._tar.close()
        self._stream.close()
        self._temporary.replace(self._path)
        info = ShardInfo(self._path.name, self._groups, self._path.stat().st_size, sha256_of(self._path))
        return FinishedShard(info, self._images, self._pairs, self._damaged)
