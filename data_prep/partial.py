"""Write a shard folder shard by shard into a temporary folder, so that an interrupted run continues."""

import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from data_prep.manifest import Manifest
from pcclip.atomic import atomic_path, atomic_text, remove_temporary
from pcclip.data.format import DatasetInfo, EmbeddingInfo, ShardInfo
from pcclip.data.stored_embeddings import Embeddings
from pcclip.paths import sha256_of


@dataclass
class FinishedShard:
    """Contents of one shard."""

    shard: ShardInfo
    """Name, groups, size and hash. A shard of size 0 has no file, because none of its images could be read."""
    group_size: int = 0
    """Largest number of images in a group."""
    images: int = 0
    """Number of images, counted once for each group that they are in."""
    pairs: int = 0
    """Number of ordered pairs."""
    damaged: int = 0
    """Number of images without an embedding."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Why images were left out, by id."""


def dataset_of(finished: Iterable[FinishedShard], embedding: EmbeddingInfo | None = None) -> DatasetInfo:
    """Return the description of a folder of shards, in order. Shards without images are left out."""
    shards = [done for done in finished if done.images]
    return DatasetInfo(
        kind="images" if embedding is None else "embeddings",
        group_size=max((done.group_size for done in shards), default=0),
        images=sum(done.images for done in shards),
        pairs=sum(done.pairs for done in shards),
        shards=[done.shard for done in shards],
        embedding=embedding,
    )


def embeddings_payload(embeddings: Embeddings) -> bytes:
    """Return the content of the `.npy` member with the embeddings (G, D) of a group, in float16."""
    stream = io.BytesIO()
    np.save(stream, embeddings.astype(np.float16), allow_pickle=False)
    return stream.getvalue()


class ShardFile:
    """A shard to write groups to, made by `PartialFolder.shard`. The same groups give the same bytes.

    Attributes:
        written: Its contents so far.
    """

    def __init__(self, name: str, stream: IO[bytes]) -> None:
        self.tar = tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        self.written = FinishedShard(ShardInfo(name, 0, 0, ""))

    def add(self, key: str, members: Mapping[str, bytes], *, images: int, pairs: int, damaged: int = 0) -> None:
        """Write a group.

        Args:
            key: Its key.
            members: Contents by extension: the part of the member's name after the key, such as `00.jpg`.
            images: Number of its images.
            pairs: Number of its ordered pairs.
            damaged: Number of its images without an embedding.
        """
        for extension, payload in sorted(members.items()):
            member = tarfile.TarInfo(f"{key}.{extension}")
            member.size, member.mode = len(payload), 0o444
            self.tar.addfile(member, io.BytesIO(payload))
        written = self.written
        written.shard.groups += 1
        written.group_size = max(written.group_size, images)
        written.images += images
        written.pairs += pairs
        written.damaged += damaged


@dataclass(frozen=True)
class PartialFolder:
    """The folder `<output>.partial`: `plan.json`, `shards/`, and a file in `records/` for each finished shard.

    Only the holder of the output's lock calls `begin` and `publish`. In between, any process may write shards.
    """

    output: Path
    """The final shard folder."""

    @property
    def folder(self) -> Path:
        """The folder itself."""
        return self.output.with_name(self.output.name + ".partial")

    @property
    def shards(self) -> Path:
        """The folder of the shards."""
        return self.folder / "shards"

    def begin(self, plan: Mapping[str, Any]) -> None:
        """Create the folder, or keep it if an earlier run with the same plan left it."""
        file = self.folder / "plan.json"
        text = json.dumps(plan)
        if not self.shards.is_dir() or not file.is_file() or file.read_text(encoding="utf-8") != text:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.shards.mkdir(parents=True)
            with atomic_text(file) as stream:
                stream.write(text)
        for folder in (self.shards, self.folder / "records"):
            remove_temporary(folder)

    @contextmanager
    def shard(self, name: str) -> Iterator[ShardFile]:
        """Yield a shard to write. After the block it is flushed to disk, renamed and recorded as finished.

        Nothing is left if the block raises. A shard without images is recorded but has no file.

        Raises:
            OSError: The shard cannot be written; names it.
        """
        path = self.shards / name
        with atomic_path(path) as temporary:
            with temporary.open("wb") as stream:
                file = ShardFile(name, stream)
                yield file
                file.tar.close()
                stream.flush()
                os.fsync(stream.fileno())
            shard = file.written.shard
            shard.bytes, shard.sha256 = temporary.stat().st_size, sha256_of(temporary)
        if not file.written.images:
            path.unlink()
            shard.bytes = 0
        self.record(file.written)

    def record(self, done: FinishedShard) -> None:
        """Record a shard as finished."""
        with atomic_text(self._record(done.shard.name)) as stream:
            stream.write(json.dumps(asdict(done)))

    def finished(self, name: str) -> FinishedShard | None:
        """Return the record of a shard. None if it is not finished, or its file is missing or has another size."""
        try:
            content = json.loads(self._record(name).read_text(encoding="utf-8"))
            done = FinishedShard(**{**content, "shard": ShardInfo(**content["shard"])})
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return None
        size, path = done.shard.bytes, self.shards / name
        return done if size == 0 or (path.is_file() and path.stat().st_size == size) else None

    def _record(self, name: str) -> Path:
        return self.folder / "records" / (name + ".json")

    def publish(self, info: DatasetInfo, manifest: Manifest, inputs: Mapping[str, str]) -> None:
        """Write `dataset.json` and replace the output by the folder of shards. A kill in between costs no shard.

        Args:
            info: Content of `dataset.json`.
            manifest: The completed manifest of the run.
            inputs: Hashes of the inputs, for `info`.
        """
        made_by = {**asdict(manifest), "inputs": inputs}
        del made_by["output"]
        info.made_by = made_by
        info.write(self.shards)
        shutil.rmtree(self.output, ignore_errors=True)
        manifest.write(self.output, manifest.counts, manifest.left_out, written=self.shards)
        self.shards.replace(self.output)
        shutil.rmtree(self.folder)

    def is_published(self, manifest: Manifest) -> bool:
        """Return whether the output is up to date, and every shard is there with the right size."""
        if not manifest.matches(self.output):
            return False
        try:
            DatasetInfo.read(self.output)
        except (ValueError, FileNotFoundError):
            return False
        if not self.shards.exists():  # an earlier run was killed at the end of `publish`
            shutil.rmtree(self.folder, ignore_errors=True)
        return True
