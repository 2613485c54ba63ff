"""Images in shards: kept as they are or stored as an upright JPEG, or refused. tests/data/test_pictures.py tests decoding."""

import contextlib
import io
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_prep.images import check_image, encode_image, image_header
from pcclip.data.pictures import UnreadableImageError


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


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation_is_stored(kind: str) -> None:
    first, second = (Image.new("RGB", (16, 16), colour) for colour in ("red", "blue"))
    kept = encode_image(encoded(first, kind, save_all=True, append_images=[second]), "a", None, 95)
    assert kept.extension == "jpg"
    assert np.abs(pixels(kept.payload) - (255, 0, 0)).max() < 12


@pytest.mark.parametrize(("kind", "extension"), [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_plain_file_keeps_its_bytes(kind: str, extension: str, mode: str) -> None:
    payload = encoded(photo().convert(mode), kind)
    kept = encode_image(payload, "a", 64, 50)
    assert (kept.payload, kept.extension) == (payload, extension)
    assert image_header(payload, "a") == (extension, (64, 48))


@pytest.mark.parametrize("size", [(1000, 400), (400, 1000), (301, 299), (2048, 1536)])
def test_large_images_are_shrunk_and_only_pixels_are_stored(size: tuple[int, int]) -> None:
    payload = encoded(photo(*size), "JPEG", comment=b"who took it, and where")
    kept = encode_image(payload, "a", 100, 95).payload
    found = pixels(kept)
    assert max(found.shape) == 100
    plain = photo(*size).resize((found.shape[1], found.shape[0]), Image.Resampling.BICUBIC)
    assert np.abs(found - np.asarray(plain)).mean() < 4
    assert b"who took it" not in kept


@pytest.mark.parametrize(
    "payload",
    [b"no picture", b"", encoded(photo(), "JPEG")[:-200], encoded(photo(), "PNG")[:-400]],
    ids=["text", "empty", "jpeg", "png"],
)
@pytest.mark.parametrize(
    "read", [check_image, *(partial(encode_image, resize=resize, quality=90) for resize in (None, 16))]
)
def test_unreadable_files_are_refused(payload: bytes, read: Callable[[bytes, str], object]) -> None:
    with pytest.raises(UnreadableImageError, match=r"^a\.jpg: ") as caught:
        read(payload, "a.jpg")
    assert "0x" not in caught.value.reason  # an address would make the manifest differ from run to run


def test_damaged_files_never_raise_anything_else() -> None:
    random = np.random.default_rng(0)
    exif = photo().getexif()
    exif[0x0112] = 6
    kinds: dict[str, dict[str, Any]] = {"JPEG": {"exif": exif}, "PNG": {"exif": exif}, "WEBP": {}, "GIF": {}}
    for kind, options in {**kinds, "BMP": {}, "AVIF": {}}.items():
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
