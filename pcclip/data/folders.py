"""Shard folders as settings name them: local, at an address, or behind a command; remote shards are kept in a cache.

Shards are always read from local files. A remote one is fetched when it is first needed, under the name of its sha256, so
that the cache never holds a wrong or half shard and serves every run and every folder with the same shards.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import shlex
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import braceexpand
import webdataset as wds

from pcclip.atomic import atomic_path
from pcclip.data.format import DATASET_FILE, DatasetInfo, ShardInfo

ATTEMPTS = 4
FIRST_WAIT = 2.0  # seconds before the second attempt, twice as long before each further one
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][\w.+-]*", re.ASCII)
ADDRESS = re.compile(r"(pipe:|[a-z][a-z0-9+.-]*://)")


def is_remote(folder: str) -> bool:
    """Whether a folder is an address or a command, and not a local path."""
    return ADDRESS.match(folder) is not None


def expand(folders: Iterable[str]) -> list[str]:
    """The folders that a list with braces names, such as `data/train-{000..012}`. `{name}` stands for itself."""
    return [str(one) for folder in folders for one in braceexpand.braceexpand(folder.replace("{name}", "\\{name\\}"))]


@dataclass(frozen=True)
class ShardFolder:
    """A shard folder, local or remote.

    Attributes:
        name: As the settings name it.
        info: Its `dataset.json`.
        cache: Where remote shards are kept; None for a local folder.
        dataset: What its images' ids are unique in: the number of the settings' entry that names it. Folders that braces
            name together are parts of one dataset.
    """

    name: str
    info: DatasetInfo
    cache: Path | None = None
    dataset: str = ""

    @classmethod
    def open(cls, name: str, cache: Path, dataset: str | None = None) -> ShardFolder:
        """Read the folder's `dataset.json`.

        Args:
            name: A path; an address that webdataset can open (`s3://`, `gs://`, `https://`, ...); or `pipe:` and a command
                that writes the file `{name}` of the folder to its output. Commands come from the settings alone.
            cache: Where remote shards are kept.
            dataset: See the attribute; the name itself by default.

        Raises:
            FileNotFoundError, ValueError: As `DatasetInfo.find`; also shard names that are no plain names.
            ConnectionError: A remote folder cannot be reached.
        """
        dataset = name if dataset is None else dataset
        if not is_remote(name):
            return cls(name, DatasetInfo.find(name), dataset=dataset)
        if name.startswith("pipe:") and "{name}" not in name:
            raise ValueError(f"{name}: write {{name}} where the command takes the name of the file to read")
        info = DatasetInfo.parse(_attempt(_address(name, DATASET_FILE)), _address(name, DATASET_FILE))
        for shard in info.shards:
            if not PLAIN_NAME.fullmatch(shard.name):
                raise ValueError(
                    f"{_address(name, DATASET_FILE)}: shard {shard.name!r} is no plain name of letters, digits, dots and "
                    "dashes, as remote shards must have; rename it"
                )
            if not re.fullmatch("[0-9a-f]{64}", shard.sha256):
                raise ValueError(f"{_address(name, DATASET_FILE)}: {shard.name} has no sha256; make the shards again")
        return cls(name, info, cache, dataset)

    def path(self, shard: ShardInfo) -> Path:
        """The shard's local file, fetched if need be.

        Raises:
            ConnectionError: It cannot be fetched, or another file is there than `dataset.json` says.
        """
        if self.cache is None:
            return Path(self.name) / shard.name
        file = self.cache / f"{shard.sha256}.tar"
        if not file.is_file():
            self.cache.mkdir(parents=True, exist_ok=True)
            with _lock(file.with_suffix(".lock")):
                if not file.is_file():
                    _attempt(_address(self.name, shard.name), file, shard)
        return file


def _address(folder: str, name: str) -> str:
    if folder.startswith("pipe:"):
        return folder.replace("{name}", shlex.quote(name))
    return f"{folder.rstrip('/')}/{name}"


def _attempt(address: str, file: Path | None = None, shard: ShardInfo | None = None) -> bytes:
    """Read an address, several times if need be: its content, or with `file` into that."""
    command = address
    if address.startswith("s3://"):  # webdataset has no opener for it
        command = f"pipe:aws s3 cp --only-show-errors {shlex.quote(address)} -"
    error: Exception | None = None
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(FIRST_WAIT * 2 ** (attempt - 1))
        try:
            if file is None:
                with wds.gopen(command) as stream:
                    content: bytes = stream.read()
                return content
            _fetch(command, file, shard)
            return b""
        except (OSError, ValueError) as caught:
            error = caught
    raise ConnectionError(
        f"{address}: cannot be read after {ATTEMPTS} attempts ({error}); check the address, your access to it and the "
        "network"
    ) from error


def _fetch(command: str, file: Path, shard: ShardInfo | None) -> None:
    digest, size = hashlib.sha256(), 0
    with atomic_path(file) as temporary:
        with wds.gopen(command) as stream, temporary.open("wb") as target:
            while block := stream.read(1 << 20):
                target.write(block)
                digest.update(block)
                size += len(block)
        if shard is not None and digest.hexdigest() != shard.sha256:
            raise OSError(f"{size} bytes with another sha256 than the {shard.bytes} that {DATASET_FILE} speaks of")


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Let one process of the machine fetch; the others wait for it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:  # not left to closing: a worker forked meanwhile has the file open, too
            fcntl.flock(file, fcntl.LOCK_UN)
