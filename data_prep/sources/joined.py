"""Source `parts`: the `captions.jsonl` files that several machines wrote, brought together without decoding again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_prep.files import CAPTION_KEYS, image_path, read_jsonl
from data_prep.sources.source import Candidate, Checked, Losses, SourceOptions

KEYS = {**CAPTION_KEYS, "width": int, "height": int, "sha256": str}


def inputs(options: SourceOptions) -> dict[str, str | Path]:
    """Return the files.

    Raises:
        FileNotFoundError: No file matches `input`.
    """
    return {f"part.{place}": file for place, file in enumerate(_files(options))}


def candidates(options: SourceOptions, losses: Losses) -> Iterator[Candidate]:
    """Yield images in the order of the files' names."""
    for file in _files(options):
        for _, row in read_jsonl(file, KEYS):
            fields = {key: value for key, value in row.items() if key not in KEYS}
            checked = Checked(row["width"], row["height"], row["sha256"])
            yield Candidate(row["id"], image_path(file, row).absolute(), row["captions"], fields, checked=checked)


def _files(options: SourceOptions) -> list[Path]:
    pattern = Path(options.input)
    files = sorted(pattern.parent.glob(pattern.name))
    if not files:
        raise FileNotFoundError(f"{options.input}: no file matches this pattern, `input` of the captions step")
    return files
