"""Small pictures and tar files."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image


def jpeg(level: int, size: tuple[int, int] = (8, 6), orientation: int | None = None) -> bytes:
    """A JPEG of one colour; each level below 32 gives other bytes."""
    stream = io.BytesIO()
    exif = Image.Exif()
    if orientation is not None:
        exif[ExifTags.Base.Orientation] = orientation
    Image.new("RGB", size, (8 * level, 0, 0)).save(stream, "JPEG", exif=exif)
    return stream.getvalue()


def png(colour: tuple[int, int, int], size: tuple[int, int] = (8, 8)) -> bytes:
    """A PNG of one colour."""
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    return stream.getvalue()


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write a tar file of these members, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, payload in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(payload)
            tar.addfile(entry, io.BytesIO(payload))
    return path


def odd_pictures() -> list[Image.Image]:
    """Noise pictures of odd sizes and colour modes."""
    rng = np.random.default_rng(0)
    sizes = ((32, 32), (45, 70), (200, 31))
    noise = [Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)) for height, width in sizes]
    return [*noise, noise[1].convert("L"), noise[1].convert("RGBA"), noise[2].convert("P"), noise[0].convert("CMYK")]
