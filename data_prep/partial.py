"""Making a shard folder: its shards one by one, in a folder of its own until all are there, so that a run can go on later."""

import io
import json
import os
import shutil
import tarfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data_prep.manifest import Manifest
from pcclip.atomic import atomic_path, atomic_text, remove_temporary
from pcclip.data.format import DatasetInfo, ShardInfo
from pcclip.paths import sha256_of


@dataclass
class FinishedShard:
    """What was written of one shard."""

    shard: ShardInfo
    """Name, groups, size and hash. Size 0: none of its images could be read, so there is no file."""
    group_size: int = 0
    """The largest number of images in a group."""
    images: int = 0
    """Number of image places."""
    pairs: int = 0
    """Number of ordered pairs."""
    damaged: int = 0
    """How many of the images have no embedding."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Reasons of the images that were left out, by id."""

    def add_to(self, info: DatasetInfo) -> None:
        """Add the shard and its counts to a description of all shards."""
        info.group_size = max(info.group_size, self.group_size)
        info.images += self.images
        info.pairs += self.pairs
        info.shards.append(self.shard)


class ShardFile:
    """A shard being written, under a temporary name until it is finished. The same groups give the same bytes.

    Args:
        path: The shard.

    Attributes:
        written: What it holds so far.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with ExitStack() as stack:
            self._temporary = stack.enter_context(atomic_path(path))
            self._stream = stack.enter_context(self._temporary.open("wb"))
            self._open = stack.pop_all()
        self._tar = tarfile.open(fileobj=self._stream, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        self.written = FinishedShard(ShardInfo(path.name, 0, 0, ""))

    def add(self, key: str, members: Mapping[str, bytes], *, images: int, pairs: int, damaged: int = 0) -> None:
        """Write a group.

        Args:
            key: Its key.
            members: The members by what follows the key in their names.
            images: Number of its images.
            pairs: Number of its ordered pairs.
            damaged: Number of its images without an embedding.
        """
        for extension, payload in sorted(members.items()):
            member = tarfile.TarInfo(f"{key}.{extension}")
            member.size, member.mode = len(payload), 0o444
            self._tar.addfile(member, io.BytesIO(payload))
        written = self.written
        written.shard.groups += 1
        written.group_size = max(written.group_size, images)
        written.images += images
        written.pairs += pairs
        written.damaged += damaged

    def finish(self) -> FinishedShard:
        """Give the shard its name, once its bytes are on the disk."""
        self._tar.close()
        self._stream.flush()
        os.fsync(self._stream.fileno())
        shard = self.written.shard
        shard.bytes, shard.sha256 = self._temporary.stat().st_size, sha256_of(self._temporary)
        self._open.close()
        return self.written

    def discard(self, error: BaseException) -> None:
        """Delete what has been written.

        Raises:
            OSError: `error` is about a full disk; names the shard.
        """
        self._open.__exit__(type(error), error, error.__traceback__)


@dataclass(frozen=True)
class PartialFolder:
    """The folder `<output>.partial`: `plan.json`, `shards/`, and in `records/` a file for each finished shard.

    The holder of the output's lock calls `begin` and `publish`; any process may write shards in between.

    Attributes:
        output: The shard folder to be.
    """

    output: Path

    @property
    def folder(self) -> Path:
        """The folder itself."""
        return self.output.with_name(self.output.name + ".partial")

    @property
    def shards(self) -> Path:
        """The folder of the shards."""
        return self.folder / "shards"

    def begin(self, plan: Mapping[str, Any]) -> None:
        """Prepare the folder. It is emptied if it is of another plan."""
        file = self.folder / "plan.json"
        text = json.dumps(plan)
        if not self.shards.is_dir() or not file.is_file() or file.read_text(encoding="utf-8") != text:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.shards.mkdir(parents=True)
            with atomic_text(file) as stream:
                stream.write(text)
        for folder in (self.shards, self.folder / "records"):
            remove_temporary(folder)

    def record(self, done: FinishedShard) -> None:
        """Remember a finished shard."""
        with atomic_text(self._record(done.shard.name)) as stream:
            stream.write(json.dumps(asdict(done)))

    def finished(self, name: str) -> FinishedShard | None:
        """Return what was recorded of a shard, or None if it is not finished or no longer whole."""
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
        """Describe the shards by `info`, and let their folder replace the output. A kill in between costs no shard.

        Args:
            info: The description.
            manifest: The run's manifest, completed.
            inputs: Hashes of the inputs, to go into `info`.
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
        """Return whether the output is up to date and none of its shards is missing or cut short."""
        if not manifest.matches(self.output):
            return False
        try:
            DatasetInfo.read(self.output)
        except (ValueError, FileNotFoundError):
            return False
        if not self.shards.exists():  # killed at the very end of `publish`
            shutil.rmtree(self.folder, ignore_errors=True)
        return True
