"""Reader of SugarCrepe's files: choices between a caption and a hard negative."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class CaptionChoice:
    """An image's file name, its caption, and a caption that is false of it."""

    filename: str
    caption: str
    negative: str


def read_caption_choices(source: str | Path) -> dict[str, list[CaptionChoice]]:
    """Read a JSON file, or all of a folder, in SugarCrepe's layout: `{"0": {"filename", "caption", "negative_caption"}}`.

    Returns:
        File name without its ending (`swap_obj`, ...) to its choices.

    Raises:
        FileNotFoundError: The file or folder does not exist, or the folder has no JSON file.
        ValueError: A file that is not of that layout.
    """
    source = Path(source)
    files = sorted(source.glob("*.json")) if source.is_dir() else [source]
    if not files or not files[0].is_file():
        raise FileNotFoundError(
            f"{source}: no SugarCrepe JSON file; download the `data` folder of github.com/RAIVNLab/sugar-crepe into it"
        )
    return {file.stem: _read(file) for file in files}


def _read(file: Path) -> list[CaptionChoice]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: not JSON ({error}); download it again") from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f'{file}: expected {{"0": {{"filename", "caption", "negative_caption"}}, ...}}')
    return [_choice(row, f'{file}, entry "{key}"') for key, row in content.items()]


def _choice(row: Any, where: str) -> CaptionChoice:
    parts = []
    for key in ("filename", "caption", "negative_caption"):
        part = row.get(key) if isinstance(row, dict) else None
        if not isinstance(part, str) or not part.strip():
            raise ValueError(f"{where}: `{key}` is missing, empty or no text")
        parts.append(part.strip())
    return CaptionChoice(*parts)
