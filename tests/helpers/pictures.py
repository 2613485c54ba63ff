"""Small pictures and tar files for tests of captions."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from PIL import ExifTags, Image


def jpeg(level: int, size: tuple[int, int] = (8, 6), orientation: int | None = None) -> bytes:
    """A JPEG of one colour; each level below 32 gives other bytes."""
    stream = io.BytesIO()
    exif = Image.Exif()
    if orientation is not None:
        exif[ExifTags.Base.Orientation] = orientation
    Image.new("RGB", size, (8 * level, 0, 0)).save(stream, "JPEG", exif=exif)
    return stream.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    """Write a tar file of these members."""
    with tarfile.open(path, "w") as tar:
        for name, payload in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(payload)
            tar.addfile(entry, io.BytesIO(payload))
