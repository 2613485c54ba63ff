"""Atomic writes: text files that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(file: Path, text: str) -> None:
    """Write `file` as UTF-8, line ends as they are, in one step: a reader sees what was there before, or all of it.

    Folders are made. Processes that write the same file do not disturb each other; the last one wins.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    temporary.write_bytes(text.encode("utf-8"))
    temporary.replace(file)
