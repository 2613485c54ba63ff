"""Atomic writes: a file or folder appears complete or not at all.

Temporary files are next to the target and match `.NAME.*.tmp*`. Their names are unique, so several processes may write one
target; the last one wins.
"""

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO

# Errors of writing that name no file.
WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
# Names that `_temporary` gives.
_TEMPORARY = re.compile(r"\.(?P<stem>.+)\.(?P<process>[0-9a-f]+)-\w+\.tmp(?P<suffix>\..*)?")


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Yield an empty temporary file with the suffix of `target`. It replaces `target` when the block succeeds.

    Parent folders are created. The mode of the file follows the umask, also if the block changes it.

    Raises:
        OSError: The file cannot be written. Names `target`.
    """
    target = Path(target)
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder; name a file", str(target))
    temporary = _temporary(target)
    with _naming(target, temporary):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode
        try:
            yield temporary
            temporary.chmod(mode)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_text(target: str | Path) -> Iterator[IO[str]]:
    """Like `atomic_path`, but yield an open UTF-8 stream. Line endings are not translated."""
    with atomic_path(target) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        yield stream


@contextmanager
def atomic_folder(target: str | Path) -> Iterator[Path]:
    """Yield an empty temporary folder. It replaces `target`, file or folder, when the block succeeds.

    The modes of its files follow the umask, also if the block changes them.

    Raises:
        OSError: The folder cannot be written. Names `target`.
    """
    target = Path(target)
    temporary, replaced = _temporary(target), _temporary(target)
    with _naming(target, temporary):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        mode = temporary.stat().st_mode & 0o666
        try:
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file() and not file.is_symlink():
                    file.chmod(mode)
            if os.path.lexists(target):
                target.replace(replaced)
            try:
                temporary.replace(target)
            except OSError:
                if os.path.lexists(replaced):
                    replaced.replace(target)
                raise
        finally:
            for leftover in (temporary, replaced):
                remove(leftover)


def remove(path: Path) -> None:
    """Remove a file, link or folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@cache
def _token(process: int) -> str:
    # Random, since processes in different containers may have the same id. Cached by id: a forked process gets its own.
    return secrets.token_hex(4)


def remove_leftovers(*targets: str | Path) -> None:
    """Remove the temporary files of killed processes that wrote these targets, all in one folder.

    Other temporary files of the same processes in the folder are removed too. No other process may be writing the targets.
    """
    names, folder = {Path(target).name for target in targets}, Path(targets[0]).parent
    found = [(path, match) for path in folder.glob(".*") if (match := _TEMPORARY.fullmatch(path.name))]
    killed = {match["process"] for _, match in found if match["stem"] + (match["suffix"] or "") in names}
    for path, match in found:
        if match["process"] in killed:
            remove(path)


def remove_temporary(folder: Path) -> None:
    """Remove all temporary files in a folder. No other process may be writing there."""
    for path in list(folder.glob(".*")):
        if _TEMPORARY.fullmatch(path.name):
            remove(path)


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.stem}.{_token(os.getpid())}-{secrets.token_hex(4)}.tmp{target.suffix}")


@contextmanager
def _naming(target: Path, temporary: Path) -> Iterator[None]:
    """Make errors name the target instead of the temporary path."""
    try:
        yield
    except OSError as error:
        unnamed = error.filename is None and error.errno in WRITE_ERRORS
        if unnamed or any(str(name).startswith(str(temporary)) for name in (error.filename, error.filename2)):
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise
