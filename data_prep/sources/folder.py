"""Source `folder`: images with a `.txt` of the same name next to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_prep.files import clean
from data_prep.sources.source import (
    REPLACED,
    Candidate,
    Losses,
    SourceOptions,
    folder_hash,
    walk,
)
from pcclip.data.picture_files import PICTURE_ENDINGS
from pcclip.paths import existing_folder

IGNORED = (".txt", ".json", ".jsonl")  # captions, and what the steps write


def inputs(options: SourceOptions) -> dict[str, str | Path]:
    """Return a hash over names, sizes and times of images and captions.

    Raises:
        FileNotFoundError: `input` is not a folder.
    """
    folder = existing_folder(options.input, "`input` of source `folder` of the captions step")
    return {"input": folder_hash(folder, (".txt", *PICTURE_ENDINGS))}


def candidates(options: SourceOptions, losses: Losses) -> Iterator[Candidate]:
    """Yield images sorted folder by folder; an image's id is its path below the folder."""
    folder = Path(options.input).absolute()
    for name in walk(folder, losses):
        path = folder / name
        if path.suffix.lower() in PICTURE_ENDINGS:
            text = path.with_suffix(".txt")
            captions = read_lines(text)
            if captions is None and text.is_file():
                losses.add("not_utf8", text.relative_to(folder).as_posix())
            else:
                yield Candidate(name, path, captions or [])
        elif path.suffix == ".txt" and not any(
            path.with_suffix(found).exists() for ending in PICTURE_ENDINGS for found in (ending, ending.upper())
        ):
            losses.add("missing", f"{name}: no image of this name next to it")
        elif path.suffix not in IGNORED and not path.name.startswith("."):
            losses.add("not_an_image", name)


def read_lines(file: Path) -> list[str] | None:
    """Return the captions of a text file, one a line; None if it is no file or not UTF-8."""
    if not file.is_file():
        return None
    try:
        text = file.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return None
    return None if REPLACED in text else clean(text.splitlines())
