"""Check image files, and encode them for shards."""

import base64
import hashlib
import io
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
    """An image as it is stored in a shard: its bytes and the extension of its member."""

    payload: bytes
    extension: str


@dataclass(frozen=True)
class Checked:
    """Result of decoding an image: upright size in pixels and sha256, or the reason of a failure.

    A stored embedding has no size. `reason` is `missing` or `unreadable`, or for embeddings `not_finite` or `zero`, with
    details in `message`. It is empty after success.
    """

    width: int = 0
    height: int = 0
    sha256: str = ""
    reason: str = ""
    message: str = ""


def check_image(payload: bytes, where: str) -> tuple[int, int]:
    """Decode an image and return its upright width and height in pixels.

    Args:
        payload: Content of the file.
        where: Name of the file, for errors.

    Raises:
        UnreadableImageError: As `pcclip.data.pictures.decode`.
    """
    with opened(payload, where) as image:
        turn = orientation(image)
        image.load()
        width, height = eight_bits(image).size
        return (height, width) if turn >= 5 else (width, height)


def check(path: Path, payload: bytes | None) -> Checked:
    """Decode an image from its payload or, without one, from its file."""
    try:
        content = read_bytes(path) if payload is None else payload
        width, height = check_image(content, str(path))
    except UnreadableImageError as error:
        absent = isinstance(error.__cause__, FileNotFoundError | NotADirectoryError)
        return Checked(reason="missing" if absent else "unreadable", message=str(error))
    return Checked(width, height, hashlib.sha256(content).hexdigest())


def check_all(images: Sequence[tuple[Path, bytes | None, Checked | None]]) -> list[Checked]:
    """Decode images without a known result. Here and not in the step, so that workers import only this module."""
    return [known or check(path, payload) for path, payload, known in images]


def image_header(payload: bytes, where: str) -> tuple[str, tuple[int, int]]:
    """Return the extension of an image in a shard, and its width and height, without decoding it.

    Raises:
        UnreadableImageError: The image is too large, or its format is not used in shards.
    """
    with opened(payload, where) as image:
        if image.format not in SHARD_FORMATS:
            raise UnreadableImageError(where, f"is {image.format}, shards hold {', '.join(SHARD_FORMATS)}")
        return SHARD_FORMATS[image.format], image.size


def encode_image(payload: bytes, where: str, resize: int | None, quality: int) -> StoredImage:
    """Return an image as it is stored in a shard: unchanged if possible, else as a new JPEG.

    An upright, still, opaque JPEG, PNG or WebP in RGB or grey is unchanged if its longer side is at most `resize`. Any other
    image is converted: first frame, on white, RGB, upright, shrunk to `resize`. It is never enlarged.

    Args:
        payload: Content of the file.
        where: Name of the file, for errors.
        resize: Maximum of the longer side in pixels, or None.
        quality: Quality of a new JPEG.

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
        small.info = {}  # else Pillow stores the comment of the file
        stream = io.BytesIO()
        small.save(stream, "JPEG", quality=quality)
    return StoredImage(stream.getvalue(), "jpg")


def data_url(payload: bytes, where: str, size: int) -> str:
    """Return an image as a data URL: upright, in RGB or grey, with at most `size` pixels on the longer side.

    Raises:
        UnreadableImageError: As `encode_image`.
    """
    stored = encode_image(payload, where, size, quality=85)
    media_type = stored.extension.replace("jpg", "jpeg")
    return f"data:image/{media_type};base64,{base64.b64encode(stored.payload).decode()}"


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises:
        UnreadableImageError: The file is missing, not a regular file, or not readable.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would block
            raise UnreadableImageError(str(path), "is not a file")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(str(path), error.strerror or str(error)) from error
    except UnreadableImageError:
        raise
    except ValueError as error:
        raise UnreadableImageError(str(path), f"is not a valid file name ({error})") from error
