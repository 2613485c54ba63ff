"""Find the pictures for a tool: in folders, by patterns, from lists of files, in webdataset shards, or given in memory."""

import glob
import os
import re
import sys
import tarfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from braceexpand import braceexpand
from PIL import Image

from pcclip.command_line import ToolWarning
from pcclip.data.labelled import ImageFile, Picture
from pcclip.data.picture_files import PICTURE_ENDINGS, Skipped, is_copy, is_picture, is_picture_name, walk
from pcclip.data.pictures import upright
from pcclip.data.stored_embeddings import StoredEmbedding, count_other_lengths, open_array, stored_image, stored_images
from pcclip.data.table_rows import table_rows
from pcclip.paths import read_text

Images = str | Path | Sequence[str | Path | Image.Image]
OneImage = str | Path | Image.Image


@dataclass(frozen=True)
class GivenPicture:
    """A picture in memory."""

    key: str
    image: Image.Image

    def decode(self, within: int | None = None) -> Image.Image:
        """Return the picture upright in RGB, in its full size."""
        return upright(self.image)


def find_pictures(sources: Sequence[str | Path]) -> list[ImageFile]:
    """List pictures in the order given, each once, without opening them.

    Args:
        sources: Any of

            - A folder, with its subfolders, in the order of names. Its `.tar` files are shards. Contact sheets that pcclip
              drew and folders of pictures that it copied are left out.
            - A shard, or a brace pattern of shards such as `train-{000..010}.tar`. Pictures are found by extension.
            - A pattern such as `photos/**/*.jpg`.
            - A list: `.txt` with a path in each line, `.csv` with a column `path`, or `-` for lines of the standard input.
            - A picture.
            - Stored embeddings in place of pictures: a `.npy` file (N, D), or one of its rows, named `FILE/0`, `FILE/1` and
              so on.

    A warning counts the skipped files of folders, patterns and shards by extension or reason. Of several sources, as when a
    shell expands a pattern, those that pcclip drew or copied are skipped too.

    Raises:
        FileNotFoundError: A source does not exist.
        ValueError: A source has no pictures, a shard is damaged, or a list has the wrong form.
    """
    found: dict[tuple[str, int | None], ImageFile] = {}
    own = Skipped()
    names = [str(source) for source in sources]
    several = len(names) > 1
    here = str(Path.cwd())
    base = os.path.commonpath([os.path.dirname(os.path.abspath(name)) for name in names]) if several else ""  # noqa: PTH100, PTH120
    for source in names:
        if several and _is_own(source, base, own):
            continue
        skipped = Skipped()
        pictures = list(_pictures_of(source, skipped))
        if not pictures:
            also = f", skipped {skipped}" if skipped else ""
            raise ValueError(f"{source}: no pictures in it ({', '.join(PICTURE_ENDINGS)}{also}); check the path")
        if skipped:
            warnings.warn(f"{source}: skipped {skipped}", ToolWarning, stacklevel=2)
        for picture in pictures:
            # `./a.png` and `a.png` are the same picture.
            found.setdefault((os.path.normpath(os.path.join(here, picture.path)), picture.offset), picture)  # noqa: PTH118
    if own and not found:
        raise ValueError(f"{names[0]} and {len(names) - 1} others: all skipped, {own}; name other pictures")
    if own:
        warnings.warn(f"{names[0]} and {len(names) - 1} others: skipped {own}", ToolWarning, stacklevel=2)
    return list(found.values())


def given_pictures(images: Images) -> Sequence[Picture]:
    """List what `find_pictures` finds, and pictures in memory.

    Raises:
        FileNotFoundError: A source does not exist.
        ValueError: There is no picture, or as `find_pictures` raises it.
    """
    if isinstance(images, str | Path):
        return find_pictures([images])
    pictures: list[Picture] = []
    for number, image in enumerate(images):
        if isinstance(image, Image.Image):
            pictures.append(GivenPicture(f"picture {number}", image))
        elif isinstance(image, str | Path):
            pictures += find_pictures([image])
        else:
            raise ValueError(
                f"picture {number}: expected a path or a PIL image, found {type(image).__name__}; save embeddings with "
                "numpy.save and give the .npy file"
            )
    if not pictures:
        raise ValueError("no pictures given")
    return pictures


def named_picture(name: str) -> ImageFile:
    """Return the picture of a file, which may be missing, or one row of stored embeddings, named `FILE.npy/0` and so on.

    Raises:
        FileNotFoundError: The `.npy` file does not exist.
        ValueError: It has no such row, or is no array of embeddings.
    """
    file, _, row = name.rpartition("/")
    return stored_image(file, int(row)) if file.endswith(".npy") and row.isdecimal() else ImageFile(name, name)


def _is_own(source: str, base: str, own: Skipped) -> bool:
    """Return whether a source is a contact sheet, or in a folder of copied pictures below `base`. Count it as skipped."""
    path = os.path.abspath(source)  # noqa: PTH100
    if is_copy(os.path.join(path, "x") if os.path.isdir(path) else path, base):  # noqa: PTH112, PTH118
        own["copied by pcclip"] += 1
        return True
    return path.lower().endswith(".png") and not is_picture(path, own)


def _pictures_of(source: str, skipped: Skipped) -> Iterator[ImageFile]:
    path = Path(source)
    if source == "-":
        yield from _listed(line.rstrip("\n") for line in sys.stdin)
    elif path.is_dir():
        yield from _in_folder(source, skipped)
    elif "{" in source and not path.exists():
        for name in braceexpand(source):
            yield from _pictures_of(name, skipped)
    elif any(mark in source for mark in "*?[") and not path.exists():
        fixed = os.path.dirname(re.split(r"[*?[]", source)[0])  # noqa: PTH120 (the folder before the first mark)
        for name in sorted(glob.glob(source, recursive=True)):  # noqa: PTH207 (Path.glob takes no absolute patterns)
            if os.path.isdir(name):  # noqa: PTH112
                continue
            if is_copy(name, fixed):
                skipped["copied by pcclip"] += 1
            elif name.endswith(".tar") or source.endswith(".npy") or is_picture(name, skipped):
                yield from _pictures_of(name, skipped)
    elif not path.is_file():
        if isinstance(picture := named_picture(source), StoredEmbedding):
            yield picture
            return
        raise FileNotFoundError(f"{source}: not found; give a folder, a pattern, a list, shards or pictures")
    elif path.suffix == ".tar":
        yield from _in_shard(source, skipped)
    elif path.suffix == ".txt":
        yield from _listed(read_text(path, "list of pictures").splitlines())
    elif path.suffix == ".csv":
        rows = list(table_rows(path))
        if rows and "path" not in rows[0]:
            raise ValueError(f"{source}: no column `path`; it has {', '.join(rows[0])}")
        yield from _listed(row["path"] for row in rows)
    elif path.suffix == ".npy":
        array = open_array(path)
        if lengths := count_other_lengths(array):
            message = f"{source}: {lengths} of {len(array)} embeddings are not of unit length; normalised"
            warnings.warn(message, ToolWarning, stacklevel=2)
        yield from stored_images([(source, array)], [f"{source}/{row}" for row in range(len(array))])
    elif source.lower().endswith(PICTURE_ENDINGS):
        yield ImageFile(source, source)
    else:
        raise ValueError(
            f"{source}: neither a picture ({', '.join(PICTURE_ENDINGS)}) nor a list (.txt, .csv) nor a shard (.tar) nor "
            "embeddings (.npy)"
        )


def _in_folder(folder: str, skipped: Skipped) -> Iterator[ImageFile]:
    for place, names in walk(folder, skipped):
        for name in names:
            path = os.path.join(place, name)  # noqa: PTH118 (a Path for each of a million files is slow)
            if name.endswith(".tar"):
                yield from _in_shard(path, skipped)
            elif is_picture(path, skipped):
                yield ImageFile(path, path)


def _in_shard(shard: str, skipped: Skipped) -> Iterator[ImageFile]:
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # the list would grow with the shard
                if member.isfile() and is_picture_name(member.name, skipped):
                    yield ImageFile(shard, f"{shard}/{member.name}", offset=member.offset_data, size=member.size)
    except tarfile.TarError as error:
        raise ValueError(f"{shard}: not a readable tar ({error}); copy it again") from error


def _listed(lines: Iterator[str] | Sequence[str]) -> Iterator[ImageFile]:
    for line in lines:
        # Missing files are reported later, like damaged pictures, since a list may be long and old.
        if line.strip():
            yield named_picture(line.strip())
