"""Images on their way into shards: every kind of file is stored upright in plain RGB or grey, or refused with a reason."""

import contextlib
import io
import struct
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_prep.images import check_image, encode_image, image_header
from pcclip.data.pictures import UnreadableImageError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 128, 0), (0, 0, 255), (255, 255, 255)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def photo(width: int = 64, height: int = 48) -> Image.Image:
    small = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def pixels(payload: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(payload)) as image:
        assert image.mode in ("RGB", "L")
        assert image.getexif().get(0x0112, 1) == 1
        return np.asarray(image.convert("RGB")).astype(int)


def stored(payload: bytes, resize: int | None = None) -> np.ndarray:
    return pixels(encode_image(payload, "a.file", resize, 95).payload)


def palette_with_hole() -> bytes:
    image = Image.new("P", (16, 16), 0)
    image.putpalette([*BLUE, *RED])
    image.paste(1, (8, 0, 16, 16))
    return encoded(image, "PNG", transparency=0)


def rgba_with_hole() -> Image.Image:
    image = Image.new("RGBA", (16, 16), (*BLUE, 0))
    image.paste((*RED, 255), (8, 0, 16, 16))
    return image


def two_frames(kind: str) -> bytes:
    first, second = Image.new("RGB", (16, 16), RED), Image.new("RGB", (16, 16), BLUE)
    return encoded(first, kind, save_all=True, append_images=[second])


@pytest.mark.parametrize(
    "payload",
    [palette_with_hole(), encoded(rgba_with_hole(), "PNG"), encoded(rgba_with_hole(), "WEBP", lossless=True)],
    ids=["palette", "rgba", "webp"],
)
def test_what_is_transparent_becomes_white(payload: bytes) -> None:
    found = stored(payload)
    assert np.abs(found[:, :6] - WHITE).max() < 12
    assert np.abs(found[:, 10:] - RED).max() < 12


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_animations_the_first_frame_is_stored(kind: str) -> None:
    kept = encode_image(two_frames(kind), "a", None, 95)
    assert kept.extension == "jpg"
    assert np.abs(pixels(kept.payload) - RED).max() < 12


def test_cmyk() -> None:
    cmyk = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    assert np.abs(stored(cmyk) - RED).max() < 12


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_keep_their_range(kind: str) -> None:
    ramp = np.linspace(0, 0xFFFF, 64).astype(np.uint16)[None].repeat(16, 0)
    found = stored(encoded(Image.fromarray(ramp), kind))
    assert np.abs(found[8, :, 0] - np.linspace(0, 255, 64)).max() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("resize", [None, 96])
def test_pictures_stand_upright(orientation: int, resize: int | None) -> None:
    upright = photo(256, 128)
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # what is to be turned clockwise has been turned the other way
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    turned = upright.transpose(turns[orientation]) if orientation > 1 else upright.copy()
    exif = turned.getexif()
    exif[0x0112] = orientation
    payload = encoded(turned, "JPEG", exif=exif, quality=95)
    expected = upright if resize is None else upright.resize((96, 48), Image.Resampling.BICUBIC)
    found = stored(payload, resize)
    assert found.shape == np.asarray(expected).shape
    assert np.abs(found - np.asarray(expected)).mean() < 6
    assert check_image(payload, "a") == upright.size


def test_a_file_that_will_do_keeps_its_bytes() -> None:
    for kind, extension in (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")):
        for image in (photo(), photo().convert("L")):
            payload = encoded(image, kind)
            kept = encode_image(payload, "a", 64, 50)
            assert (kept.payload, kept.extension) == (payload, extension)
            assert image_header(payload, "a") == (extension, (64, 48))


@pytest.mark.parametrize("size", [(1000, 400), (400, 1000), (301, 299), (2048, 1536)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_large_ones_are_shrunk_as_a_plain_resize_would(size: tuple[int, int], kind: str) -> None:
    payload = encoded(photo(*size), kind, **({"quality": 95} if kind == "JPEG" else {}))
    found = stored(payload, 100)
    assert max(found.shape) == 100
    assert abs(found.shape[0] - 100 * size[1] / max(size)) <= 0.5
    plain = photo(*size).resize((found.shape[1], found.shape[0]), Image.Resampling.BICUBIC)
    assert np.abs(found - np.asarray(plain)).mean() < 4


def test_nothing_of_the_file_but_its_pixels_is_stored() -> None:
    payload = encoded(photo(), "JPEG", comment=b"who took it, and where")
    assert b"who took it" not in encode_image(payload, "a", 32, 90).payload


def bomb() -> bytes:
    """A PNG that says it has four thousand million pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 65000, 65000, 8, 2, 0, 0, 0)
    chunks = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunks + encoded(photo(), "PNG")[33:]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"no picture", r"not a JPEG, PNG, WEBP, GIF, BMP, TIFF or AVIF file"),
        (b"", r"not a JPEG, PNG"),
        (encoded(photo(), "JPEG")[:-200], r"(?i:truncated)"),
        (encoded(photo(), "PNG")[:-400], r"truncated|broken"),
        (bomb(), r"has more than \d+ pixels; shrink it"),
    ],
    ids=["text", "empty", "jpeg", "png", "bomb"],
)
@pytest.mark.parametrize("resize", [None, 16])
def test_unreadable_files_are_refused_with_a_reason(payload: bytes, reason: str, resize: int | None) -> None:
    with pytest.raises(UnreadableImageError, match=f"^a.jpg: .*{reason}") as caught:
        encode_image(payload, "a.jpg", resize, 90)
    assert "0x" not in caught.value.reason  # an address would make the manifest differ from run to run
    with pytest.raises(UnreadableImageError, match=reason):
        check_image(payload, "a.jpg")


def test_a_picture_just_too_large_is_refused_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 48 - 1)  # Pillow itself only warns, up to twice as much
    with pytest.raises(UnreadableImageError, match="has more than"):
        encode_image(encoded(photo(), "PNG"), "a", None, 90)


def test_damaged_files_never_raise_anything_else() -> None:
    random = np.random.default_rng(0)
    exif = photo().getexif()
    exif[0x0112] = 6
    for kind, options in (
        ("JPEG", {"exif": exif}),
        ("PNG", {"exif": exif}),
        ("WEBP", {}),
        ("GIF", {}),
        ("BMP", {}),
        ("AVIF", {}),
    ):
        whole = encoded(photo(), kind, **options)
        for _ in range(60):
            damaged = bytearray(whole)
            for place in random.integers(0, min(len(whole), 300), 4):
                damaged[place] = random.integers(0, 256)
            with contextlib.suppress(UnreadableImageError):
                pixels(encode_image(bytes(damaged), "a", 32, 90).payload)


@pytest.mark.parametrize("read", [check_image, partial(encode_image, resize=None, quality=90)])
def test_damaged_pixels_of_a_png_are_noticed(read: Callable[[bytes, str], object]) -> None:
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(stream, "PNG")
    payload = bytearray(stream.getvalue())
    start = payload.index(b"IDAT") + 4
    payload[start : start + 36] = bytes(36)
    with pytest.raises(UnreadableImageError, match=r"a\.png"):
        read(bytes(payload), "a.png")
