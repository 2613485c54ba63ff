"""What the sources of captioned images share."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from data_prep.files import states_hash
from data_prep.step import UNRECORDED
from pcclip.data.picture_files import PICTURE_ENDINGS
from pcclip.paths import existing_file, existing_folder

LISTED = 1000  # names a reason keeps for the manifest; counts are exact however many there are
REPLACED = "\ufffd"  # what decoding puts in place of bytes that are not UTF-8


@dataclass(kw_only=True)
class SourceOptions:
    """Where captioned images come from."""

    source: Literal["coco", "csv", "jsonl", "folder", "shards", "cub", "parts"]
    """What `input` is: `coco`: a COCO captions annotation file (`captions_*.json`, held in memory whole), its images in
    `images`; `csv`: a table with one row a caption (`.tsv` is split at tabs and has no quoting), its images in
    `images`; `jsonl`: one image a line, as in another `captions.jsonl`, or with `image_column` and `caption_column`
    (one caption or a list) as keys; files are relative to `images`, or without it to the file's own folder; `folder`:
    images with a `.txt` of the same name next to them, one caption a line, in folders of any depth; `shards`: a folder
    of webdataset caption shards: image + `.txt`, or `.cls` with `class_names`, or `.json` with a `caption` (as
    img2dataset writes them); `cub`: the folder CUB_200_2011 with its images, and the ten captions an image of Reed et
    al. in `texts`; `parts`: the `captions.jsonl` of all parts, to bring them together."""
    input: str = field(metadata=UNRECORDED)
    """The file or folder; for `parts` a pattern such as `data/captions-*.jsonl`."""
    images: str | None = field(default=None, metadata=UNRECORDED)
    """For `coco` and `csv` the folder of the images, for `shards` the folder to unpack them into."""
    image_column: str = "image"
    """Column of the image's file name, which becomes its id."""
    caption_column: str = "caption"
    """Column of the caption."""
    class_names: str | None = field(default=None, metadata=UNRECORDED)
    """For `shards` with `.cls`: file with one class name a line, in the order of the labels."""
    template: str = "a photo of a(n) {}"
    """Caption of a picture with a class, `{}` for the class's name; `a(n)` becomes "a" or "an", as the word after it
    asks."""
    texts: str | None = field(default=None, metadata=UNRECORDED)
    """For `cub` the folder `text_c10`, by default the one in `input`."""
    part: str | None = None
    """Do only a part of the images, `1/4` to `4/4`; each machine writes another `output`. For `shards` a part of the
    shards, each machine with `images` of its own."""


@dataclass(frozen=True)
class Checked:
    """Result of decoding an image: its upright size in pixels and the hash of its bytes, or why it cannot be used.

    `reason` is `missing` or `unreadable`, with more in `message`; it is empty if the image can be used.
    """

    width: int = 0
    height: int = 0
    sha256: str = ""
    reason: str = ""
    message: str = ""


@dataclass
class Candidate:
    """A captioned image that a source found; it is not yet known whether the image can be read.

    Attributes:
        id: Its id in the data set.
        path: Where the image lies, or is to lie when `payload` is given.
        captions: Its captions.
        fields: Further fields of its row.
        payload: The image itself, when it has no file yet.
        checked: Result of decoding it, if it was decoded already.
    """

    id: str
    path: Path
    captions: list[str]
    fields: dict[str, Any] = field(default_factory=dict)
    payload: bytes | None = None
    checked: Checked | None = None


class Losses:
    """What was left out, by reason: exact counts, and the first names."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._names: dict[str, list[str]] = {}

    def add(self, reason: str, name: str) -> None:
        """Note one item."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        names = self._names.setdefault(reason, [])
        if len(names) < LISTED:
            names.append(name.encode(errors="backslashreplace").decode())  # it must be possible to write it

    def names(self) -> dict[str, list[str]]:
        """The names noted first, by reason, and how many more there are."""
        return {
            reason: names + ([f"... and {more} more"] if (more := self.counts[reason] - len(names)) else [])
            for reason, names in self._names.items()
        }


class Source(NamedTuple):
    """How one kind of input is read."""

    inputs: Callable[[SourceOptions], dict[str, str | Path]]
    """Returns what is read, by role: a file to hash, or a hash. Raises FileNotFoundError if something is missing, and
    ValueError if an option is missing or the input as a whole is not what it should be."""
    candidates: Callable[[SourceOptions, Losses], Iterator[Candidate]]
    """Yields captioned images in the source's order; bad rows go to the losses. Raises ValueError as `inputs`."""


def input_file(options: SourceOptions) -> Path:
    """Return `input`, which must be a file.

    Raises:
        FileNotFoundError: It is missing.
        IsADirectoryError: It is a folder.
    """
    return existing_file(options.input, f"`input` of source `{options.source}` of the captions step")


def file_and_images(options: SourceOptions) -> dict[str, str | Path]:
    """Return `input`, and a hash over names, sizes and times of the images.

    Raises:
        FileNotFoundError, ValueError: As `input_file` and `image_folder`.
    """
    return {"input": input_file(options), "images": folder_hash(image_folder(options))}


def image_folder(options: SourceOptions) -> Path:
    """The folder `images`, absolute.

    Raises:
        ValueError: It is not given.
        FileNotFoundError: It is missing.
    """
    if options.images is None:
        raise ValueError(f"captions.images: source `{options.source}` needs the folder of the images")
    return existing_folder(Path(options.images).absolute(), "image folder (`images` of the captions step)")


def walk(folder: Path, losses: Losses) -> Iterator[str]:
    """Yield the names of all files below a folder, relative to it, sorted folder by folder.

    Links to folders are followed, but no folder is entered twice.

    Args:
        folder: The folder.
        losses: Takes folders that were entered before or cannot be read, and pipes, devices and sockets.
    """
    entered: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, onerror=partial(_unreadable, folder, losses), followlinks=True):
        found, prefix = Path(place).stat(), Path(place).relative_to(folder).as_posix()
        prefix = "" if prefix == "." else f"{prefix}/"
        if (found.st_dev, found.st_ino) in entered:
            losses.add("folder_again", prefix)
            folders.clear()
            continue
        entered.add((found.st_dev, found.st_ino))
        folders.sort()
        for name in sorted(names):
            path = f"{place}/{name}"
            if os.path.isfile(path) or not os.path.exists(path):  # noqa: PTH110, PTH113  # in half the time of pathlib
                yield prefix + name
            else:
                losses.add("not_a_file", prefix + name)


def _unreadable(folder: Path, losses: Losses, error: OSError) -> None:
    losses.add("unreadable_folder", f"{os.path.relpath(error.filename, folder)}: {error.strerror}")


def folder_hash(folder: Path, suffixes: tuple[str, ...] = ("", *PICTURE_ENDINGS)) -> str:
    """Return a hash over names, sizes and times of the files below a folder that have one of the suffixes.

    What the steps write has other suffixes, so that it may lie in the same folder.
    """
    return states_hash(
        (name, folder / name) for name in walk(folder, Losses()) if Path(name).suffix.lower() in suffixes
    )
