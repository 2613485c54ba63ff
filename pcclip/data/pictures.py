"""Decode picture files: the only place where the bytes of a file become an image.

JPEG, PNG, WebP, GIF, BMP, TIFF and AVIF can be read, and HEIC with the extra `heic`. An image comes out upright (EXIF), in 8
bits, the first frame of an animation, with white where it is transparent. Imports neither torch nor pcclip's other modules.
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
# What Pillow's decoders are known to raise on damaged files.
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

    def __reduce__(self) -> tuple[type[UnreadableImageError], tuple[str, str]]:
        return type(self), (str(self).removesuffix(f": {self.reason}"), self.reason)


class OversizedImageError(UnreadableImageError):
    """An image of more pixels than are decoded."""


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
        formats: Pillow's names of the formats that are allowed.
        max_pixels: Images of more pixels are refused; `PIL.Image.MAX_IMAGE_PIXELS` by default.
        within: Shrink the image so that its longest side has at most this many pixels.

    Raises:
        UnreadableImageError: It has another format, is too large or damaged, or needs the extra `heic`.
    """
    with opened(payload, where, formats, max_pixels) as image:
        return upright(image, within)


def upright(image: Image.Image, within: int | None = None) -> Image.Image:
    """Return an image of any kind in upright RGB, with white where it is transparent.

    Args:
        image: The image. If it is shrunk, it may be changed in place.
        within: Shrink it so that its longest side has at most this many pixels. A JPEG that is not loaded yet is decoded
            at a reduced size, which is several times faster.
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
        found.info.pop("exif", None)  # its orientation is undone
    return found


@contextmanager
def opened(
    payload: bytes, where: str, formats: tuple[str, ...] = READABLE, max_pixels: int | None = None
) -> Iterator[Image.Image]:
    """Yield the image, not yet decoded. Errors of decoding it in the block become `UnreadableImageError`.

    The arguments are those of `decode`.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")  # about odd metadata, which is not used
            # The later filter is the stronger. Pillow only warns up to twice its limit.
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
    """Whether the bytes begin as a HEIC file does. AVIF files begin alike, with other brands."""
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
    """EXIF orientation that is still to be undone, a key of `UPRIGHT`, or 1."""
    if image.format == "TIFF":
        return 1  # Pillow turns it while it loads
    if image.format == "PNG":
        image.load()  # Pillow looks for EXIF behind the pixels; below, an error in these would go unnoticed
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except DAMAGE:
        return 1  # damaged metadata do not make the picture unreadable
    return value if value in UPRIGHT else 1


def turned(image: Image.Image, turn: int) -> Image.Image:
    """The image with an orientation undone."""
    return image.transpose(UPRIGHT[turn]) if turn in UPRIGHT else image


def eight_bits(image: Image.Image) -> Image.Image:
    """An image of any mode in RGB or 8-bit grey, with white where it is transparent.

    16 bits keep their upper 8. Grey values of 32 bits or in floating point come without a range. They are taken to span the
    first of 0 to 1 (floating point only), 0 to 255 and 0 to 65535 that holds them all, else their own smallest to largest.

    Raises:
        ValueError: Not one of the values is finite.
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
    """Grey values (H, W) of 32 bits or in floating point as uint8; see `eight_bits`."""
    values = np.asarray(image)
    if image.mode == "I" and getattr(image, "tag_v2", {}).get(339) == (1,):  # a TIFF's, and unsigned
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
