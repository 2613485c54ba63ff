"""Output that appears whole or not at all, the warnings that a tool shows its user, and the packages it needs."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class ToolWarning(UserWarning):
    """Something that the user of a tool should know, though it goes on."""


def check_writable(target: str | Path) -> Path:
    """Make the folder that `target` goes into, and see that it can be written to, before any work is done.

    Raises:
        OSError: It cannot; names the folder.
    """
    target = Path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise OSError(f"{target}: cannot be written ({error.strerror}); choose another place") from error
    return target


@contextmanager
def whole_file(target: str | Path) -> Iterator[Path]:
    """A path to write to, which takes the name `target` only when the block ends without an error."""
    target = check_writable(target)
    if target.is_dir():
        raise IsADirectoryError(f"{target}: is a folder; name a file")
    temporary = target.with_name(f".{target.stem}.tmp{target.suffix}")  # the ending tells writers the format
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(target: str | Path) -> Iterator[Path]:
    """An empty folder to fill, which takes the name `target` only when the block ends without an error.

    Raises:
        FileExistsError: The target is there already and not an empty folder.
    """
    target = new_folder(target)
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        if target.is_dir():
            target.rmdir()
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def new_folder(target: str | Path) -> Path:
    """Check that `target` can be made; raises as `whole_folder` and `check_writable` do."""
    target = check_writable(target)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise FileExistsError(f"{target}: is there already; remove it or choose another place")
    return target


def need(package: str, extra: str) -> None:
    """Refuse to go on without a package that is not always installed.

    Raises:
        ValueError: It is not; names the extra that brings it.
    """
    if importlib.util.find_spec(package) is None:
        raise ValueError(f"{package} is not installed; install the extra: pip install 'pcclip[{extra}]'")
