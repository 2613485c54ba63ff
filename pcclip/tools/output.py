"""A tool's outputs: checks before any work is done, the table and its sheet; and the warnings that it shows."""

from __future__ import annotations

import csv
import importlib.util
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pcclip.atomic import atomic_path, atomic_text
from pcclip.data.picture_files import COPIES, is_own_png, save_png

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from pcclip.tools.gallery import Gallery

FURTHER = (".png", ".unreadable.csv")  # what is written next to a CSV, by the end of its name
OR_OVERWRITE = " or add --overwrite true"
FOLDER_FILES = (
    "open_clip_config.json",
    "config.json",
    "results.json",
)  # of models and sweeps, which have no subfolders


class ToolWarning(UserWarning):
    """Warning that a tool shows to its user."""


def check_writable(target: str | Path) -> Path:
    """Make the folder of `target`, and check that it can be written to, before any work is done.

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
    """Check that an optional package is installed.

    Raises:
        ValueError: It is not; names the extra that brings it.
    """
    if importlib.util.find_spec(package) is None:
        raise ValueError(f"{package} is not installed; run pip install '.[{extra}]' in pcclip's folder")


def draw_sheet(gallery: Gallery, order: Tensor, labels: Sequence[str], title: str, most: int) -> Image.Image:
    """Draw up to `most` pictures, spread evenly over an order (N,) of the gallery. `labels` are those of the gallery."""
    import torch

    from pcclip.reports.contact_sheet import TILE, contact_sheet

    places = torch.linspace(0, len(order) - 1, min(most, len(order))).round().long()
    chosen = order[places].tolist()
    return contact_sheet(
        [gallery.pick(index, TILE) for index in chosen], [labels[index] for index in chosen], title, columns=10
    )


def write_outputs(
    output: Path, header: Sequence[str], rows: Iterable[Sequence[object]], sheet: Image.Image, gallery: Gallery
) -> Path:
    """Write a CSV, its sheet and, if there are any, the list of unreadable pictures: all of them or none.

    Returns:
        The file of the sheet.
    """
    drawn, listed = (output.with_name(output.stem + ending) for ending in FURTHER)
    with ExitStack() as stack:
        # The contents are on the disk before the first file gets its name.
        write_rows(stack.enter_context(atomic_text(output)), header, rows)
        save_png(sheet, stack.enter_context(atomic_path(drawn)))
        if gallery.unreadable:
            write_rows(stack.enter_context(atomic_text(listed)), ("path", "reason"), gallery.unreadable.items())
    if gallery.unreadable:
        print(f"{len(gallery.unreadable)} pictures could not be read; they are listed in {listed}")
    else:
        listed.unlink(missing_ok=True)
    return drawn


def write_rows(stream: IO[str], header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV to the disk."""
    writer = csv.writer(stream)
    writer.writerow(header)
    writer.writerows(rows)
    stream.flush()
