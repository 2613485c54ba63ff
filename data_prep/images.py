"""Image files on their way into shards: which can be read, and which bytes are stored."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
READABLE = (*FORMATS, "GIF", "BMP", "TIFF")
PLAIN_MODES = ("RGB", "L")
# A JPEG is decoded at the smallest size that is this many times what is wanted, other pictures are averaged down to it.
REDUCING_GAP = 2.0
# What Pillow's decoders are known to raise on damaged files.
DAMAGE = (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, OverflowError, struct.error)
# How an EXIF orientation is undone.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableImageError(ValueError):
    """An image file that is missing or does not decode.

    Args:
        where: Its name.
        reason: What is wrong with it.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.reason = reason


@dataclass(frozen=True)
class StoredImage:
    """An image as it goes into a shard: its bytes and the extension of its member."""

    payload: bytes
    extension: str


def check_image(payload: bytes, where: str) -> tuple[int, int]:
    """Decode an image whole and return its width and height in pixels, as it stands upright.

    Args:
        payload: The file's bytes.
        where: Its name, for messages.

    Raises:
        UnreadableImageError: It is of a foreign format, too large, or damaged.
    """
    with _opened(payload, where) as image:
        image.load()
        width, height = image.size
        return (height, width) if _orientation(image) >= 5 else (width, height)


def image_header(payload: bytes, where: str) -> tuple[str, tuple[int, int]]:
    """Extension of an image in a shard, and its width and height, without decoding it.

    Raises:
        UnreadableImageError: It is none of the formats that shards hold, or too large.
    """
    with _opened(payload, where) as image:
        if image.format not in FORMATS:
            raise UnreadableImageError(where, f"is {image.format}, shards hold {', '.join(FORMATS)}")
        return FORMATS[image.format], image.size


def encode_image(payload: bytes, where: str, resize: int | None, quality: int) -> StoredImage:
    """Bytes to store for an image: its own where they will do, else a new JPEG.

    Its own bytes will do when it is an upright, still, opaque JPEG, PNG or WebP in RGB or grey whose longer side is within
    `resize`. Otherwise its first frame is put on white, converted to RGB, shrunk to `resize` and turned upright; it is
    never enlarged.

    Args:
        payload: The file's bytes.
        where: Its name, for messages.
        resize: Longest side in pixels, or None.
        quality: JPEG quality of a new JPEG.

    Raises:
        UnreadableImageError: It is of a foreign format, too large, damaged, or has pixels of unknown range.
    """
    with _opened(payload, where) as image:
        orientation = _orientation(image)
        fits = resize is None or max(image.size) <= resize
        plain = image.mode in PLAIN_MODES and not image.has_transparency_data
        still = not getattr(image, "is_animated", False)
        if image.format in FORMATS and plain and still and fits and orientation == 1:
            image.load()
            return StoredImage(payload, FORMATS[image.format])
        # A JPEG must not be loaded before `thumbnail`, which lets its decoder shrink it.
        small: Image.Image = image if plain or image.mode == "CMYK" else _on_white(image, where)
        if resize is not None and not fits:
            small.thumbnail((resize, resize), Image.Resampling.BICUBIC, reducing_gap=REDUCING_GAP)
        small = small.convert("RGB")
        if orientation in UPRIGHT:
            small = small.transpose(UPRIGHT[orientation])
        small.info = {}  # Pillow would store the file's comment
        stream = io.BytesIO()
        small.save(stream, "JPEG", quality=quality)
    return StoredImage(stream.getvalue(), "jpg")


def read_bytes(path: Path) -> bytes:
    """Bytes of a file.

    Raises:
        UnreadableImageError: The file is missing or may not be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(str(path), error.strerror or str(error)) from error


@contextmanager
def _opened(payload: bytes, where: str) -> Iterator[Image.Image]:
    """The image, not yet decoded; whatever decoding raises in the block becomes an `UnreadableImageError`."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")  # about odd metadata, which is not used
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # the later filter is the stronger
            yield Image.open(io.BytesIO(payload), formats=READABLE)
    except UnreadableImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImageError(where, f"has more than {Image.MAX_IMAGE_PIXELS} pixels; shrink it") from error
    except UnidentifiedImageError as error:
        raise UnreadableImageError(where, f"not a {', '.join(READABLE[:-1])} or {READABLE[-1]} file") from error
    except DAMAGE as error:
        raise UnreadableImageError(where, str(error) or type(error).__name__) from error


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except DAMAGE:
        return 1  # damaged metadata do not make the picture unreadable
    return value if value in UPRIGHT else 1


def _on_white(image: Image.Image, where: str) -> Image.Image:
    """An image of any mode in RGB or 8-bit grey, with white where it is transparent."""
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        background = Image.new("RGBA", rgba.size, "white")
        background.alpha_composite(rgba)
        return background.convert("RGB")
    if image.mode.startswith("I"):  # 16 bits; Pillow itself would cut the values off at 255
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise UnreadableImageError(where, "its 32-bit grey values are of unknown range; convert it to 8 bits")
        return Image.fromarray((values >> 8).astype(np.uint8))
    if image.mode == "F":
        raise UnreadableImageError(where, "its floating-point grey values are of unknown range; convert it to 8 bits")
    return image.convert("RGB")
