"""Which files count as pictures: by extension, without those that pcclip itself drew or copied."""

import os
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pcclip.data.pictures import PICTURE_EXTENSIONS

PICTURE_ENDINGS = tuple(f".{extension}" for extension in PICTURE_EXTENSIONS)
COPIES = ".pcclip"  # name of a file that marks folders of copied pictures
LISTED = 5  # number of reasons in a message
MARK = {"Software": "pcclip"}  # metadata of the PNGs that pcclip draws
OWN_PNG = b"tEXtSoftware\0pcclip"  # how `MARK` is stored
HEAD = 64  # bytes of a PNG in which `OWN_PNG` lies


class Skipped(Counter[str]):
    """Counts of skipped files, by extension or reason."""

    def __str__(self) -> str:
        named = self.most_common(LISTED)
        others = self.total() - sum(count for _, count in named)
        return ", ".join([f"{count} {what}" for what, count in named] + ([f"{others} others"] if others else []))


def save_png(image: Image.Image, file: Path) -> None:
    """Save a contact sheet or chart with a mark, so that commands skip it when they list the pictures of a folder."""
    info = PngInfo()
    for key, value in MARK.items():
        info.add_text(key, value)
    image.save(file, "PNG", pnginfo=info)


def is_picture(path: str, skipped: Skipped) -> bool:
    """Return whether a file is a picture by its name and was not drawn by pcclip. Count others as skipped."""
    if not is_picture_name(path, skipped):
        return False
    if path[-4:].lower() == ".png" and is_own_png(path):
        skipped["written by pcclip"] += 1
        return False
    return True


def is_picture_name(name: str, skipped: Skipped) -> bool:
    """Return whether a file is a picture by its name. Count others as skipped."""
    ending = os.path.splitext(name)[1].lower()  # noqa: PTH122 (a Path for each of a million files is slow)
    if ending not in PICTURE_ENDINGS:
        skipped[ending or "without extension"] += 1
        return False
    return True


def walk(folder: str, skipped: Skipped, links: bool = True) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder, from a folder down, with the names of its files, in the order of names. Visit each folder once.

    Hidden files and folders are left out. Folders of pictures that pcclip copied are counted as skipped, unless `folder` is
    one itself.

    Args:
        folder: Where to begin.
        skipped: Counts of what is skipped.
        links: Whether to follow links to folders.
    """
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, followlinks=links):
        state = os.stat(place)  # noqa: PTH116
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        if COPIES in names and place != folder:
            skipped["folders of copies that pcclip made"] += 1
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield place, sorted(name for name in names if not name.startswith("."))


def is_copy(path: str, base: str) -> bool:
    """Return whether a file is in a folder of copied pictures below `base`."""
    return any(_holds_copies(parent) for parent in Path(path).parents if Path(base) in parent.parents)


@lru_cache(maxsize=1024)
def _holds_copies(folder: Path) -> bool:
    return (folder / COPIES).exists()


def is_own_png(png: str) -> bool:
    """Return whether a file is a PNG that pcclip drew: a contact sheet or a chart."""
    try:
        stream = os.open(png, os.O_RDONLY | os.O_NONBLOCK)  # twice as fast as `open`; a pipe must not block
        try:
            return OWN_PNG in os.read(stream, HEAD)
        finally:
            os.close(stream)
    except OSError:
        return False  # reported as unreadable when it is decoded
