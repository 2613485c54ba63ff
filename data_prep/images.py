"""Image files on their way into shards: which can be read, and which bytes are stored."""

import io
import stat
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pcclip.data.pictures import (
    PLAIN_MODES,
    SHARD_FORMATS,
    UnreadableImageError,
    eight_bits,
    opened,
    orientation,
    upright,
)


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
        UnreadableImageError: As `pcclip.data.pictures.decode`.
    """
    with opened(payload, where) as image:
        turn = orientation(image)
        width, height = eight_bits(_loaded(image)).size
        return (height, width) if turn >= 5 else (width, height)


def image_header(payload: bytes, where: str) -> tuple[str, tuple[int, int]]:
    """Extension of an image in a shard, and its width and height, without decoding it.

    Raises:
        UnreadableImageError: It is none of the formats that shards hold, or too large.
    """
    with opened(payload, where) as image:
        if image.format not in SHARD_FORMATS:
            raise UnreadableImageError(where, f"is {image.format}, shards hold {', '.join(SHARD_FORMATS)}")
        return SHARD_FORMATS[image.format], image.size


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
        UnreadableImageError: As `pcclip.data.pictures.decode`.
    """
    with opened(payload, where) as image:
        turn = orientation(image)
        fits = resize is None or max(image.size) <= resize
        plain = image.mode in PLAIN_MODES and not image.has_transparency_data
        still = not getattr(image, "is_animated", False)
        if image.format in SHARD_FORMATS and plain and still and fits and turn == 1:
            image.load()
            return StoredImage(payload, SHARD_FORMATS[image.format])
        small = upright(image, resize)
        small.info = {}  # Pillow would store the file's comment
        stream = io.BytesIO()
        small.save(stream, "JPEG", quality=quality)
    return StoredImage(stream.getvalue(), "jpg")


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises:
        UnreadableImageError: The file is missing, not a regular one, or may not be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would wait for ever
            raise UnreadableImageError(str(path), "is not a file")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(str(path), error.strerror or str(error)) from error
    except UnreadableImageError:
        raise
    except ValueError as error:
        raise UnreadableImageError(str(path), f"no file can have this name ({error})") from error


def _loaded(image: Image.Image) -> Image.Image:
    image.load()
    return image
