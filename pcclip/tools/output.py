"""Checks of a tool's output paths and packages, and the warnings that it shows."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pcclip.data.picture_files import COPIES, is_own_png

OR_OVERWRITE = " or add --overwrite"
FOLDER_FILES = (
    "open_clip_config.json",
    "config.json",
    "results.json",
)  # of models and sweeps, which have no subfolders


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


def new_file(target: str | Path, suffix: str, overwrite: bool = False, further: Sequence[str] = ()) -> Path:
    """Check that a file can be written, before any work is done.

    Args:
        target: The file.
        suffix: What its name must end in.
        overwrite: Whether it may be there already.
        further: Endings of further files that are written: each replaces the suffix of `target`.

    Raises:
        ValueError: Its name ends otherwise.
        FileExistsError: It, or one of the others, is there already. A `.png` that pcclip did not draw is never replaced.
        OSError: As `check_writable`.
    """
    target = check_writable(target)
    if target.suffix.lower() != suffix:
        raise ValueError(f"--output {target}: must end in {suffix}")
    for file in (target, *(target.with_name(target.stem + ending) for ending in further)):
        replaceable = file.is_file() and (file.suffix.lower() != ".png" or is_own_png(str(file)))
        if file.exists() and not (overwrite and replaceable):
            raise FileExistsError(f"{file}: exists; choose another --output{OR_OVERWRITE * replaceable}")
    return target


def new_folder(target: str | Path, overwrite: bool = False) -> Path:
    """Check that a folder can be written, before any work is done.

    Args:
        target: The folder.
        overwrite: Whether what an earlier command wrote there may be replaced. Other folders never are.

    Raises:
        FileExistsError: It is there already, and not empty.
        OSError: As `check_writable`.
    """
    target = check_writable(target)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        own = _written_by_a_tool(target)
        if not (own and overwrite):
            raise FileExistsError(f"{target}: exists; choose another place{OR_OVERWRITE * own}")
    return target


def _written_by_a_tool(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    flat = not any(file.is_dir() for file in folder.iterdir())
    return (folder / COPIES).exists() or (flat and any((folder / name).exists() for name in FOLDER_FILES))


def need(package: str, extra: str) -> None:
    """Refuse to go on without a package that is not always installed.

    Raises:
        ValueError: It is not; names the extra that brings it.
    """
    if importlib.util.find_spec(package) is None:
        raise ValueError(f"{package} is not installed; run pip install '.[{extra}]' in pcclip's folder")
