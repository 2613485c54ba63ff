"""Decode picture files. No other module turns the bytes of a file into an image.

Formats: JPEG, PNG, WebP, GIF, BMP, TIFF and AVIF, and HEIC with the extra `heic`. The result is upright (EXIF), has 8 bits and
white for transparency. Of an animation only the first frame is read. This module imports neither torch nor pcclip.
"""

from __future__ import annotations

import importlib.util
import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

SHARD_FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}  # and the extensions of their members
READABLE = (*SHARD_FORMATS, "GIF", "BMP", "TIFF", "AVIF")
PICTURE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "heic", "heif")
PLAIN_MODES = ("RGB", "L")
REDUCING_GAP = 2.0  # Pillow's `reducing_gap`: cheap pre-shrink to twice the target size
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
# Exceptions that Pillow's decoders raise for damaged files.
DAMAGE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    LookupError,
    TypeError,
    OverflowError,
    RuntimeError,
    struct.error,
    zlib.error,
)
# Transposition that undoes each EXIF orientation.
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
    """An image file that is missing or cannot be decoded.

    Args:
        where: Its name.
        reason: Why it cannot be decoded.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.reason = reason

    def __reduce__(self) -> tuple[type[UnreadableImageError], tuple[str, str]]:
        return type(self), (str(self).removesuffix(f": {self.reason}"), self.reason)


class OversizedImageError(UnreadableImageError):
    """An image with more pixels than allowed."""


def decode(
    payload: bytes,
    where: str,
    formats: tuple[str, ...] = READABLE,
    max_pixels: int | None = None,
    within: int | None = None,
) -> Image.Image:
    """Decode an image into upright RGB.

    Args:
        payload: The file's bytes.
        where: Its name, for messages.
        formats: Allowed formats, by Pillow's names.
        max_pixels: Maximum number of pixels; `PIL.Image.MAX_IMAGE_PIXELS` by default.
        within: Shrink the image so that its longest side has at most this many pixels.

    Raises:
        UnreadableImageError: The image has another format, is too large or damaged, or needs the extra `heic`.
    """
    with opened(payload, where, formats, max_pixels) as image:
        return upright(image, within)


def upright(image: Image.Image, within: int | None = None) -> Image.Image:
    """Return an image of any mode upright in RGB, with white for transparency.

    Args:
        image: The image. Shrinking may change it in place.
        within: Shrink the image so that its longest side has at most this many pixels. A JPEG that is not loaded yet is
            decoded at a reduced size, which is several times faster.
    """
    turn = orientation(image)
    plain = image.mode in (*PLAIN_MODES, "CMYK") and not image.has_transparency_data
    small = image if plain else eight_bits(image)
    if within is not None and max(small.size) > within:
        small.thumbnail((within, within), Image.Resampling.BICUBIC, reducing_gap=REDUCING_GAP)
    rgb = small if small.mode == "RGB" else small.convert("RGB")
    rgb.load()
    found = turned(rgb, turn)
    if found is not image:
        found.info.pop("exif", None)  # its orientation is no longer true
    return found


@contextmanager
def opened(
    payload: bytes, where: str, formats: tuple[str, ...] = READABLE, max_pixels: int | None = None
) -> Iterator[Image.Image]:
    """Yield the image before it is decoded. Decoding errors in the block become `UnreadableImageError`.

    The arguments are those of `decode`.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")  # about invalid metadata, which is not used
            # The later filter wins. Pillow itself raises only above twice its limit.
            warnings.simplefilter("error" if max_pixels is None else "ignore", Image.DecompressionBombWarning)
            if is_heic(payload):
                _register_heic(where)
                formats = (*formats, "HEIF")
            image = Image.open(io.BytesIO(payload), formats=formats)
            if max_pixels is not None and image.width * image.height > max_pixels:
                raise OversizedImageError(where, f"{image.width} x {image.height} pixels")
            yield image
    except UnreadableImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise OversizedImageError(where, f"has more than {Image.MAX_IMAGE_PIXELS} pixels; shrink it") from error
    except UnidentifiedImageError as error:
        raise UnreadableImageError(where, f"not a {', '.join(formats[:-1])} or {formats[-1]} file") from error
    except DAMAGE as error:
        raise UnreadableImageError(where, str(error) or type(error).__name__) from error


def is_heic(payload: bytes) -> bool:
    """Return whether the bytes start like a HEIC file. AVIF files differ only in the brands."""
    if payload[4:8] != b"ftyp":
        return False
    box = payload[8 : min(int.from_bytes(payload[:4], "big"), 256)]
    brands = {box[start : start + 4] for start in range(0, len(box), 4)}
    return bool(brands & HEIC_BRANDS) and not brands & {b"avif", b"avis"}


def _register_heic(where: str) -> None:
    if importlib.util.find_spec("pillow_heif") is None:
        raise UnreadableImageError(where, "HEIC needs the extra `heic`; run pip install '.[heic]' in pcclip's folder")
    import pillow_heif

    pillow_heif.register_heif_opener()


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation to undo: a key of `UPRIGHT`, or 1 for none."""
    if image.format == "TIFF":
        return 1  # Pillow undoes it while it loads
    if image.format == "PNG":
        image.load()  # Pillow searches EXIF after the pixels; an error in the pixels would be hidden below
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except DAMAGE:
        return 1  # a picture with damaged metadata is readable
    return value if value in UPRIGHT else 1


def turned(image: Image.Image, turn: int) -> Image.Image:
    """Return the image with an orientation undone."""
    return image.transpose(UPRIGHT[turn]) if turn in UPRIGHT else image


def eight_bits(image: Image.Image) -> Image.Image:
    """Return an image of any mode in RGB or 8-bit grey, with white for transparency.

    Of 16-bit values, the upper 8 bits are kept. Grey values of 32 bits or in floating point have no known range. The range is
    the first of 0 to 1 (floating point only), 0 to 255 and 0 to 65535 that contains all values, else minimum to maximum.

    Raises:
        ValueError: No value is finite.
    """
    if image.mode.startswith("I;16"):
        values = np.asarray(image)
        grey = (values >> 8).astype(np.uint8)
        transparent = image.info.get("transparency")
        return Image.fromarray(grey if transparent is None else np.where(values == transparent, np.uint8(255), grey))
    if image.mode in ("I", "F"):
        return Image.fromarray(_scaled(image))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        background = Image.new("RGBA", rgba.size, "white")
        background.alpha_composite(rgba)
        return background.convert("RGB")
    return image if image.mode in PLAIN_MODES else image.convert("RGB")


def _scaled(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Return grey values (H, W) of 32 bits or in floating point as uint8; see `eight_bits`."""
    values = np.asarray(image)
    if image.mode == "I" and getattr(image, "tag_v2", {}).get(339) == (1,):  # an unsigned TIFF
        values = values.view(np.uint32)
    floating = values.astype(np.float64)
    finite = floating[np.isfinite(floating)]
    if not finite.size:
        raise ValueError("none of its values is finite")
    low, high = finite.min(), finite.max()
    ranges = (1, 0xFF, 0xFFFF)[image.mode == "I" :]
    top = next((top for top in ranges if low >= 0 and high <= top), None)
    if top is None:
        floating, levels = floating - low, high - low or 1.0
    else:
        levels = 1.0 if top == 1 else top + 1.0
    return np.nan_to_num(floating * (256 / levels), nan=0.0).clip(0, 255).astype(np.uint8)
