"""Source `jsonl`: JSON Lines with one image a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from data_prep.files import clean, states_hash
from data_prep.sources.source import Candidate, Losses, SourceOptions, image_folder, input_file

CHECKED_FIELDS = ("width", "height", "sha256")  # found again


def inputs(options: SourceOptions) -> dict[str, str | Path]:
    """Return the file, and a hash over names, sizes and times of the images that it names."""
    found = candidates(options, Losses())
    return {"input": input_file(options), "images": states_hash((each.id, each.path) for each in found)}


def candidates(options: SourceOptions, losses: Losses) -> Iterator[Candidate]:
    """Yield images in the file's order, with all further fields of their rows."""
    file = input_file(options)
    folder = file.parent.absolute() if options.images is None else image_folder(options)
    with file.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                candidate, captions = _candidate(line, folder, options)
            except (ValueError, RecursionError) as error:
                losses.add("bad_row", f"line {number}: {error}")
                continue
            if (bad := len(captions) - len(candidate.captions)) > 0:
                losses.add("bad_caption", f"line {number}: {bad} of {len(captions)} captions are empty or not a text")
            yield candidate


def _candidate(line: bytes, folder: Path, options: SourceOptions) -> tuple[Candidate, list[object]]:
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError(f"expected a JSON object, found {type(row).__name__}")
    file_key = "file" if "file" in row else options.image_column
    captions_key = "captions" if "captions" in row else options.caption_column
    file, captions = row.get(file_key), row.get(captions_key)
    name = row.get("id", file)
    if not isinstance(file, str) or not file:
        raise ValueError(f"`{file_key}` must be the image's file, found {file!r}")
    if not isinstance(name, str) or not name:
        raise ValueError(f"`id` must be a text, found {name!r}")
    if not isinstance(captions, str | list):
        raise ValueError(f"`{captions_key}` must be a caption or a list of captions, found {captions!r}")
    fields = {key: value for key, value in row.items() if key not in ("id", file_key, captions_key, *CHECKED_FIELDS)}
    listed = [captions] if isinstance(captions, str) else captions
    return Candidate(name, folder / file, clean(listed), fields), listed
