"""Checks of a tool's output paths and packages, and the warnings that it shows."""

from __future__ import annotations

import importlib.util
import tempfile
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


def new_folder(target: str | Path) -> Path:
    """Check that `target` can be made; raise as `check_writable` does."""
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
        raise ValueError(f"{package} is not installed; run pip install '.[{extra}]' in pcclip's folder")
