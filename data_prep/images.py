"""Image files on their way into shards: which can be read, and which bytes are stored."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image, ImageOps

FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
PLAIN_MODES = ("RGB", "L")


class UnreadableImageError(ValueError):
    """An image file that is missing or does not decode; its message is the reason."""


@dataclass(frozen=True)
class StoredImage:
    """An image as it goes into a shard: its bytes and the extension of its member."""

    payload: bytes
    extension: str


def check_image(payload: bytes, where: str) -> None:
    """Decode an image whole.

    Args:
        payload: The file's bytes.
        where: Its name, for messages.

    Raises:
        UnreadableImageError: It is of a foreign format, or damaged.
    """
    _open(payload, where)


def store_image(path: Path, resize: int | None, quality: int) -> StoredImage:
    """Bytes to store for an image file: its own where they will do, else a new JPEG.

    The file's own bytes will do when it is an upright JPEG, PNG or WebP in RGB or grey whose longer side is within
    `resize`. Otherwise it is turned upright, converted to RGB and shrunk to `resize`; it is never enlarged.

    Raises:
        UnreadableImageError: The file is missing, of a foreign format, or damaged.
    """
    payload = read_bytes(path)
    image = _open(payload, str(path))
    upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    fits = resize is None or max(image.size) <= resize
    if image.format in FORMATS and image.mode in PLAIN_MODES and upright and fits:
        return StoredImage(payload, FORMATS[image.format])
    image = ImageOps.exif_transpose(image).convert("RGB")
    if resize is not None and max(image.size) > resize:
        image.thumbnail((resize, resize), Image.Resampling.BICUBIC, reducing_gap=3.0)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return StoredImage(stream.getvalue(), "jpg")


def read_bytes(path: Path) -> bytes:
    """Bytes of a file.

    Raises:
        UnreadableImageError: The file is missing or may not be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(f"{path}: {error.strerror or error}") from error


def _open(payload: bytes, where: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(payload), formats=(*FORMATS, "GIF", "BMP", "TIFF"))
        image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadableImageError(f"{where}: {error}") from error
    return image
