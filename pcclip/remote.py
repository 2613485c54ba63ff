"""Read files and folders at addresses through fsspec: `hf://`, `s3://`, `gs://`, `https://` and others."""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import fsspec
from tenacity import Retrying, stop_after_attempt, wait_exponential

from pcclip.atomic import atomic_folder

ATTEMPTS = 4
FIRST_WAIT = 2.0  # seconds before the second attempt, doubled before each later one
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://")
T = TypeVar("T")


def is_address(name: str) -> bool:
    """Return whether a name is an address, not a local path."""
    return ADDRESS.match(name) is not None


def file_system(address: str) -> tuple[Any, str]:
    """Return fsspec's file system for an address, and the path in it.

    Raises:
        ValueError: The protocol is unknown, or its package (such as s3fs or gcsfs) is not installed.
    """
    try:
        found: tuple[Any, str] = fsspec.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise ValueError(f"{address}: cannot be opened ({error})") from error
    return found


def retried(address: str, read: Callable[[], T]) -> T:
    """Call a function that reads from an address, up to `ATTEMPTS` times.

    Raises:
        ConnectionError: All attempts failed.
    """
    attempts = Retrying(stop=stop_after_attempt(ATTEMPTS), wait=wait_exponential(FIRST_WAIT), reraise=True)
    try:
        return attempts(read)
    except Exception as error:  # each storage library has exceptions of its own
        raise ConnectionError(
            f"{address}: cannot be read after {ATTEMPTS} attempts ({error or type(error).__name__}); check the address, "
            "your access to it and the network"
        ) from error


def local_file(name: str) -> Path:
    """Return a local path unchanged; for an address, return a cached copy of the file.

    Raises:
        ConnectionError: The file cannot be read.
    """
    if not is_address(name):
        return Path(name)
    files, path = file_system(name)
    return _cached(name, files, lambda: [path]) / PurePosixPath(path).name


def local_folder(name: str) -> Path:
    """Return a local path unchanged; for an address, return a cached copy of the folder, without subfolders.

    With `https://` the server must list the folder's files.

    Raises:
        ConnectionError: The folder cannot be read, or has no files.
    """
    if not is_address(name):
        return Path(name)
    files, root = file_system(name)
    return _cached(name, files, lambda: files.find(root, maxdepth=1))


def _cached(address: str, files: Any, listed: Callable[[], Sequence[str]]) -> Path:
    """Return the folder of cached copies, in torch's cache. Changed files get a new folder."""
    import torch  # here: readers of shards need no torch

    def read() -> Path:
        paths = listed()
        if not paths:
            raise FileNotFoundError("no files")
        state = json.dumps([files.info(path) for path in paths], sort_keys=True, default=str)
        target = Path(torch.hub.get_dir()) / "pcclip" / hashlib.sha256(state.encode()).hexdigest()[:32]
        if not target.is_dir():
            with atomic_folder(target) as folder:
                for path in paths:
                    files.get_file(path, str(folder / PurePosixPath(path).name))
        return target

    return retried(address, read)
