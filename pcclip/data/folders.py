"""Shard folders as settings name them: local paths, addresses (`hf://`, `s3://`, ...) and `pipe:` commands.

Shards are read from local files only. A remote shard is copied into a cache on first use. Its name there is its sha256, so
the cache never holds a wrong or incomplete shard, and all runs and folders with equal shards share it.
"""

from __future__ import annotations

import fcntl
import re
import shlex
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import gcd
from pathlib import Path

import braceexpand
import webdataset as wds

from pcclip.atomic import atomic_path
from pcclip.data.format import DATASET_FILE, DatasetInfo, ShardInfo
from pcclip.paths import sha256_of
from pcclip.remote import file_system, is_address, retried

PLAIN_NAME = re.compile(r"[A-Za-z0-9_][\w.+-]*", re.ASCII)
PIPE = "pipe:"


def expand(folders: Iterable[str]) -> list[str]:
    """Expand braces in the names of folders, such as `data/train-{000..012}`. `{name}` is kept."""
    return [str(one) for folder in folders for one in braceexpand.braceexpand(folder.replace("{name}", "\\{name\\}"))]


def shares(
    folders: Sequence[str], weights: Mapping[str, int], groups_per_batch: int
) -> tuple[tuple[tuple[str, ...], int], ...]:
    """Return the folders of each weight of `data.train_weights`, and how many groups of them are in a batch. The order is
    that of `folders`.

    Raises:
        ValueError: A weight is not of folders of `data.train`, a folder has no weight or two, or the groups of a batch cannot
            be divided.
    """
    total = sum(weights.values())
    found: list[tuple[tuple[str, ...], int]] = []
    for entry, weight in weights.items():
        names = expand([entry])
        if unknown := set(names) - set(folders):
            raise ValueError(f"data.train_weights: {min(unknown)} is no folder of data.train: {', '.join(folders)}")
        if groups_per_batch * weight % total:
            raise ValueError(
                f"data.train_weights: {groups_per_batch} groups (data.groups_per_batch) cannot be divided by the weights "
                f"{', '.join(map(str, weights.values()))}; use a multiple of {total // gcd(*weights.values())}"
            )
        found.append((tuple(sorted(names, key=folders.index)), groups_per_batch * weight // total))
    counts = Counter(name for names, _ in found for name in names)
    for name in folders if weights else ():
        if counts[name] != 1:
            raise ValueError(f"data.train_weights: {name} needs one weight, found {counts[name]}")
    return tuple(sorted(found, key=lambda share: folders.index(share[0][0])))


@dataclass(frozen=True)
class ShardFolder:
    """A shard folder, local or remote.

    Attributes:
        name: As the settings name it.
        info: Its `dataset.json`.
        cache: Folder for copies of remote shards; None for a local folder.
        dataset: Key of the dataset, within which image ids are unique: the number of the entry in the settings. Folders from
            one entry with braces are one dataset.
    """

    name: str
    info: DatasetInfo
    cache: Path | None = None
    dataset: str = ""

    @classmethod
    def open(cls, name: str, cache: Path, dataset: str | None = None) -> ShardFolder:
        """Read the folder's `dataset.json`.

        Args:
            name: A path, an address for fsspec (`hf://`, `s3://`, `gs://`, `https://`, ...), or `pipe:` and a command that
                writes the file `{name}` of the folder to its output. Commands come from the settings only.
            cache: Folder for copies of remote shards.
            dataset: See the attribute; `name` by default.

        Raises:
            FileNotFoundError: As `DatasetInfo.find`.
            ValueError: As `DatasetInfo.find`, an unsafe shard name, or an unknown protocol.
            ConnectionError: A remote folder cannot be read.
        """
        dataset = name if dataset is None else dataset
        if is_address(name):
            file_system(name)  # raises for unknown protocols
        elif not name.startswith(PIPE):
            return cls(name, DatasetInfo.find(name), dataset=dataset)
        elif "{name}" not in name:
            raise ValueError(f"{name}: write {{name}} where the command takes the name of the file to read")
        address = _address(name, DATASET_FILE)
        with tempfile.TemporaryDirectory() as folder:
            _copy(address, Path(folder) / DATASET_FILE)
            info = DatasetInfo.parse((Path(folder) / DATASET_FILE).read_bytes(), address)
        for shard in info.shards:
            if not PLAIN_NAME.fullmatch(shard.name):
                raise ValueError(
                    f"{address}: shard {shard.name!r}: remote shards have plain names of letters, digits, dots and dashes; "
                    "rename it"
                )
            if not re.fullmatch("[0-9a-f]{64}", shard.sha256):
                raise ValueError(f"{address}: {shard.name} has no sha256; make the shards again")
        return cls(name, info, cache, dataset)

    def path(self, shard: ShardInfo) -> Path:
        """Return the local file of a shard. Copy it into the cache if necessary.

        Raises:
            ConnectionError: The shard cannot be read, or its sha256 differs from `dataset.json`.
        """
        if self.cache is None:
            return Path(self.name) / shard.name
        file = self.cache / f"{shard.sha256}.tar"
        if not file.is_file():
            self.cache.mkdir(parents=True, exist_ok=True)
            with _lock(file.with_suffix(".lock")):
                if not file.is_file():
                    with atomic_path(file) as temporary:
                        _copy(_address(self.name, shard.name), temporary, shard.sha256)
        return file


def _address(folder: str, name: str) -> str:
    if folder.startswith(PIPE):
        return folder.replace("{name}", shlex.quote(name))
    return f"{folder.rstrip('/')}/{name}"


def _copy(address: str, target: Path, sha256: str | None = None) -> None:
    """Copy the file at an address, or the output of a command, with retries."""

    def copy() -> None:
        if address.startswith(PIPE):
            with wds.gopen(address) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file)
        else:
            files, path = file_system(address)
            files.get_file(path, str(target))
        if sha256 is not None and sha256_of(target) != sha256:
            raise OSError(f"{target.stat().st_size} bytes with another sha256 than in {DATASET_FILE}")

    retried(address, copy)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Let only one process of the machine copy at a time."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:  # closing the file is not enough: a worker forked in the meantime has it open too
            fcntl.flock(file, fcntl.LOCK_UN)
