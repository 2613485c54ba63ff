"""Options, records and helpers shared by the sources of captioned images."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from data_prep.files import Row, clean, states_hash
from data_prep.images import Checked
from data_prep.step import UNRECORDED
from pcclip.data.table_rows import table_files
from pcclip.paths import existing_file, existing_folder

LISTED = 1000  # maximum number of names in the manifest, for each reason
INPUT_FILES = "`input` of the step captions"
REPLACED = "\ufffd"  # replaces bytes that are not UTF-8


@dataclass(kw_only=True)
class SourceOptions:
    """Options that describe a source of captioned images."""

    source: Literal["coco", "csv", "jsonl", "folder", "shards", "cub", "parts", "parquet", "embeddings"]
    """Type of `input`. `coco`: a COCO annotation file (`captions_*.json`, read into memory). `csv`: a table with one
    caption per row (read into memory); `.tsv` is split at tabs and has no quoting. `jsonl`: one image per line, in the
    format of `captions.jsonl` or with the keys `image_column` and `caption_column` (one caption or a list). `folder`:
    images in folders of any depth, each with a `.txt` of the same name, one caption per line. `shards`: a folder of
    webdataset shards with captions: image and `.txt`, or `.cls` with `class_names`, or `.json` with a `caption` (as
    img2dataset writes). `cub`: the folder CUB_200_2011, with the ten captions per image of Reed et al. in `texts`. `parts`: the
    `captions.jsonl` of all parts, to merge them. `parquet`: Parquet files, or the folder of a Hugging Face dataset (Parquet
    files, or one split that `save_to_disk` wrote), one image per row. `image_column` has paths or the images themselves.
    `embeddings`: a table (JSON Lines, CSV or as `parquet`) with a row for each stored embedding in `embeddings`, in the same
    order."""
    input: str = field(metadata=UNRECORDED)
    """File or folder to read; for `parts`, `parquet` and `embeddings` also a pattern such as `data/captions-*.jsonl`."""
    embeddings: str | None = field(default=None, metadata=UNRECORDED)
    """For `embeddings`: `.npy` file, or a pattern such as `data/img_emb_*.npy`, of arrays (N, D)."""
    images: str | None = field(default=None, metadata=UNRECORDED)
    """Folder of the images for `coco`, `csv` and `parquet`; for `jsonl` too, default: the folder of `input`. For `shards`, and
    if a `parquet` table holds the images themselves, the folder to unpack images into."""
    image_column: str = "image"
    """Column of the image's file name, which is also its id."""
    caption_column: str = "caption"
    """Column of the caption."""
    attribute_columns: list[str] = field(default_factory=list)
    """For `csv`, `parquet` and `embeddings`: columns to keep as `attributes` of the image, for `describe` with backend
    `attributes`. `parquet` and `embeddings` keep other columns too, but not `width` and `height`, which are those of the
    picture. The first row of an image counts."""
    class_names: str | None = field(default=None, metadata=UNRECORDED)
    """For `shards` with `.cls`: file with one class name per line, in the order of the labels."""
    template: str = "a photo of a(n) {}"
    """For `shards` with `.cls`: caption of an image. `{}` is the class name; `a(n)` becomes "a" or "an"."""
    texts: str | None = field(default=None, metadata=UNRECORDED)
    """For `cub`: the folder `text_c10`. Default: the one in `input`."""
    part: str | None = None
    """Process one of several parts of the images, e.g. `1/4` to `4/4` on four machines, each with its own `output`. For
    `shards` the parts are of shards, and each machine needs its own `images`."""


@dataclass
class Candidate:
    """A captioned image that a source found. The image may be unreadable.

    Attributes:
        id: Id in the data set. Images without one are left out.
        path: Path of the image; with `payload`, the path to write it to.
        captions: Captions of the image.
        fields: Further fields of its row.
        payload: Content of the image, if it has no file yet.
        checked: Result of decoding it, if known.
    """

    id: str
    path: Path
    captions: list[str]
    fields: dict[str, Any] = field(default_factory=dict)
    payload: bytes | None = None
    checked: Checked | None = None


class LeftOut:
    """Left-out items by reason: exact counts, and the first names."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._names: dict[str, list[str]] = {}

    def add(self, reason: str, name: str) -> None:
        """Add one item."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        names = self._names.setdefault(reason, [])
        if len(names) < LISTED:
            names.append(name.encode(errors="backslashreplace").decode())  # must be valid UTF-8 in the manifest

    def names(self) -> dict[str, list[str]]:
        """Return the first names by reason, and the number of further names."""
        return {
            reason: names + ([f"... and {more} more"] if (more := self.counts[reason] - len(names)) else [])
            for reason, names in self._names.items()
        }


def described(options: SourceOptions, where: str, row: Row) -> Candidate:
    """Return the image of a row of a table, without its path.

    The id is in the column `id` or `image_column`, the captions (one or a list) in `captions` or `caption_column`. Other
    columns become fields: dates and other types as texts, NaN, infinity and bytes as null.

    Raises:
        ValueError: A column is missing.
    """
    image, captions = (
        row[name] if name in row else column(where, row, other, option)
        for name, other, option in (
            ("id", options.image_column, "image_column"),
            ("captions", options.caption_column, "caption_column"),
        )
    )
    used = {"id", "file", "captions", "sha256", "width", "height", options.image_column, options.caption_column}
    kept = {key: value for key, value in row.items() if key not in {*used, *options.attribute_columns}}
    if options.attribute_columns:
        kept["attributes"] = {name: column(where, row, name, "attribute_columns") for name in options.attribute_columns}
    text = json.dumps(kept, default=lambda value: None if isinstance(value, bytes) else str(value))
    fields = json.loads(text, parse_constant=lambda _: None)
    name = "" if image is None else str(image)
    return Candidate(name, Path(), clean(captions if isinstance(captions, list) else [captions]), fields)


def column(where: str, row: Row, name: str, option: str) -> Any:
    """Return a cell of a row. `where` and the `option` that names the column are for the message.

    Raises:
        ValueError: The column is missing.
    """
    if name not in row:
        raise ValueError(
            f"{where}: no column {name!r}; its columns are {', '.join(row)}. Fix the row, or set `{option}`"
        )
    return row[name]


def input_file(options: SourceOptions) -> Path:
    """Return the path of `input`. Raise the errors of `existing_file`."""
    return existing_file(options.input, f"`input` of source `{options.source}` of the step captions")


def input_tables(options: SourceOptions) -> list[Path]:
    """Return the files of `input`, a table in one or several files. Raise the errors of `table_files`."""
    return table_files(options.input, INPUT_FILES)


def image_folder(options: SourceOptions) -> Path:
    """Return the absolute path of the folder `images`, which must exist."""
    return existing_folder(Path(str(options.images)).absolute(), "image folder (`images` of the step captions)")


def walk(folder: Path, left_out: LeftOut) -> Iterator[str]:
    """Yield the relative paths of all files below a folder, sorted within each folder.

    Links to folders are followed, and each folder is read once.

    Args:
        folder: The folder.
        left_out: Collects repeated and unreadable folders, and pipes, devices and sockets.
    """
    entered: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, onerror=partial(_unreadable, folder, left_out), followlinks=True):
        found, prefix = Path(place).stat(), Path(place).relative_to(folder).as_posix()
        prefix = "" if prefix == "." else f"{prefix}/"
        if (found.st_dev, found.st_ino) in entered:
            left_out.add("folder_again", prefix)
            folders.clear()
            continue
        entered.add((found.st_dev, found.st_ino))
        folders.sort()
        for name in sorted(names):
            path = f"{place}/{name}"
            if os.path.isfile(path) or not os.path.exists(path):  # noqa: PTH110, PTH113  # in half the time of pathlib
                yield prefix + name
            else:
                left_out.add("not_a_file", prefix + name)


def _unreadable(folder: Path, left_out: LeftOut, error: OSError) -> None:
    left_out.add("unreadable_folder", f"{os.path.relpath(error.filename, folder)}: {error.strerror}")


def folder_hash(folder: Path, suffixes: tuple[str, ...]) -> str:
    """Return a hash over names, sizes and modification times of the files with these suffixes below a folder.

    Outputs of the steps have other suffixes, so they may be in the same folder.
    """
    return states_hash(
        (name, folder / name) for name in walk(folder, LeftOut()) if Path(name).suffix.lower() in suffixes
    )
