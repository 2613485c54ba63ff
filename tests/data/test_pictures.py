"""The decoder: every kind of file becomes the same upright 8-bit picture, wherever it is read."""

import importlib.util
import io
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from data_prep.images import encode_image
from pcclip.data.groups import Sample, decode_group
from pcclip.data.labelled import ImageFile
from pcclip.data.pictures import UnreadableImageError, decode, upright
from pcclip.model.pixels import pixels_of

WHITE = (255, 255, 255)
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
Pixels = np.ndarray[Any, Any]


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def photo(width: int = 64, height: int = 48) -> Image.Image:
    small = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def pixels(payload: bytes) -> Pixels:
    image = decode(payload, "a")
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def read_file(payload: bytes, folder: Path) -> Pixels:
    file = folder / "a.file"
    file.write_bytes(payload)
    return np.asarray(ImageFile(str(file), "a").decode()).astype(int)


def read_shard(payload: bytes, _: Path) -> Pixels:
    sample = Sample("a", "a", {"00.png": payload})
    record: Any = {"images": [{"id": "a", "captions": []}], "pairs": []}
    images = decode_group(sample, record, pixels_of).images
    assert images is not None
    return images[0].permute(1, 2, 0).numpy().astype(int)


def read_stored(payload: bytes, _: Path) -> Pixels:
    return pixels(encode_image(payload, "a", None, 95).payload)


READERS = pytest.mark.parametrize("read", [read_file, read_shard, read_stored])
Reader = Callable[[bytes, Path], Pixels]


def rgba() -> Image.Image:
    image = Image.new("RGBA", (16, 16), (0, 0, 255, 0))
    image.paste((255, 0, 0, 255), (8, 0, 16, 16))
    return image


@READERS
@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_pictures_stand_upright(read: Reader, orientation: int, kind: str, tmp_path: Path) -> None:
    lying = photo().transpose(TURNS[orientation])
    exif = lying.getexif()
    exif[0x0112] = orientation
    payload = encoded(lying, kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))
    assert np.abs(read(payload, tmp_path) - np.asarray(photo())).mean() < 6


@READERS
def test_sixteen_bits_keep_their_range(read: Reader, tmp_path: Path) -> None:
    ramp = np.linspace(0, 0xFFFF, 64).astype(np.uint16)[None].repeat(16, 0)
    found = read(encoded(Image.fromarray(ramp), "PNG"), tmp_path)
    assert np.abs(found[8, :, 0] - np.linspace(0, 255, 64)).max() < 4
    clear = read(encoded(Image.fromarray(ramp), "PNG", transparency=0), tmp_path)
    assert (clear[:, 0] > 250).all()
    assert (clear[:, 4:12] < 60).all()


@READERS
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_what_is_transparent_becomes_white(read: Reader, kind: str, tmp_path: Path) -> None:
    found = read(encoded(rgba(), kind, lossless=True), tmp_path)
    assert np.abs(found[:, :6] - WHITE).max() < 12
    assert np.abs(found[:, 10:] - (255, 0, 0)).max() < 12


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "BMP", "WEBP", "PNG", "AVIF", "JPEG", "HEIF"])
def test_other_files_and_modes(kind: str) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    modes = {"WEBP": ("RGB",), "AVIF": ("RGB",), "HEIF": ("RGB",), "JPEG": ("L", "RGB", "CMYK")}
    for mode in modes.get(kind, ("1", "L", "P", "RGB")):
        there = photo().convert(mode)
        found = pixels(encoded(there, kind, **({"quality": 95} if kind in ("AVIF", "JPEG", "HEIF") else {})))
        assert np.abs(found - np.asarray(there.convert("RGB"))).mean() < 8, mode


@pytest.mark.parametrize("kind", ["TIFF", "HEIF", "AVIF"])
@pytest.mark.parametrize("orientation", TURNS)
def test_formats_that_turn_themselves_are_not_turned_twice(kind: str, orientation: int, tmp_path: Path) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    lying = photo().transpose(TURNS[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    # as bytes, since pillow_heif writes the orientation of an `Exif` only into the metadata
    payload = encoded(lying, kind, exif=exif.tobytes(), **({} if kind == "TIFF" else {"quality": 95}))
    assert np.abs(pixels(payload) - np.asarray(photo())).mean() < 6
    assert np.abs(read_stored(payload, tmp_path) - np.asarray(photo())).mean() < 6


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_animations_the_first_frame_is_read(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    found = pixels(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert np.abs(found - (255, 0, 0)).max() < 12


@READERS
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([0, 0.25, 0.5, 1], np.float32), [0, 64, 128, 255]),
        (np.array([0, 64, 128, 255], np.float32), [0, 64, 128, 255]),
        (np.array([0, 1, 128, 255], np.int32), [0, 1, 128, 255]),
        (np.array([0, 256, 32768, 65535], np.int32), [0, 1, 128, 255]),
        (np.array([-1000, -500, 0, 1000], np.int32), [0, 64, 128, 255]),
        (np.array([0, 2**30, 2**31, 2**32 - 1], np.uint32), [0, 64, 128, 255]),
        (np.array([-2, -1, 0, 2], np.float32), [0, 64, 128, 255]),
        (np.array([np.nan, 0.5, -np.inf, np.inf], np.float32), [0, 128, 0, 255]),
    ],
)
def test_grey_values_without_a_range_are_scaled(
    read: Reader, values: Pixels, expected: list[int], tmp_path: Path
) -> None:
    if read is read_shard:
        pytest.skip("shards hold no TIFF")
    payload = encoded(Image.fromarray(values[None].repeat(8, 1).repeat(8, 0)), "TIFF")
    if values.dtype == np.uint32:  # which Pillow writes as signed
        payload = payload.replace(struct.pack("<HHIHH", 339, 3, 1, 2, 0), struct.pack("<HHIHH", 339, 3, 1, 1, 0))
    found = read(payload, tmp_path)
    assert found[4, 4::8, 0].tolist() == pytest.approx(expected, abs=2)


def test_values_of_which_none_is_finite_are_refused() -> None:
    with pytest.raises(UnreadableImageError, match=r"^a: .*finite"):
        decode(encoded(Image.fromarray(np.full((4, 4), np.nan, np.float32)), "TIFF"), "a")


def test_heic_without_the_extra_is_refused_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnreadableImageError, match=r"^a: .*\.\[heic\]"):
        decode(b"\x00\x00\x00\x1cftypheic\x00\x00\x00\x00mif1heicmiaf", "a")


@pytest.mark.parametrize("payload", [b"", b"no picture", b"\x00\x00\x00\x18ftypisom", encoded(photo(), "JPEG")[:-200]])
def test_what_is_no_picture_is_refused(payload: bytes) -> None:
    with pytest.raises(UnreadableImageError, match=r"^a: ") as caught:
        decode(payload, "a")
    again = pickle.loads(pickle.dumps(caught.value))  # on its way from a worker
    assert (str(again), again.reason) == (str(caught.value), caught.value.reason)


def test_bombs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = encoded(photo(), "PNG")
    with pytest.raises(UnreadableImageError, match="64 x 48"):
        decode(payload, "a", max_pixels=64 * 48 - 1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 48 - 1)  # Pillow itself only warns, up to twice as much
    with pytest.raises(UnreadableImageError, match="more than 3071"):
        decode(payload, "a")
    assert decode(payload, "a", max_pixels=64 * 48).size == (64, 48)


def test_a_picture_in_memory() -> None:
    image = rgba()
    image.getexif()[0x0112] = 6
    found = upright(image)
    assert (found.getpixel((0, 0)), found.getpixel((0, 15))) == (WHITE, (255, 0, 0))


def test_plain_pictures_have_the_pixels_that_pillow_gives(tmp_path: Path) -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        payload = encoded(photo(), kind)
        with Image.open(io.BytesIO(payload)) as image:
            expected = np.asarray(image.convert("RGB"))
        assert (pixels(payload) == expected).all()
        assert torch.equal(torch.tensor(read_shard(payload, tmp_path)), torch.tensor(expected.astype(int)))


def test_the_decoder_is_cheap_to_import() -> None:
    said = "import sys, pcclip.data.pictures; print([name for name in ('torch', 'webdataset') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(
    ("form", "mode"), [("JPEG", "RGB"), ("JPEG", "CMYK"), ("PNG", "RGBA"), ("PNG", "I;16"), ("GIF", "P")]
)
def test_a_picture_is_shrunk_as_it_is_decoded(form: str, mode: str, orientation: int) -> None:
    across = np.linspace(0, 255, 800).astype(np.uint8)
    grey = Image.fromarray(np.broadcast_to(across, (600, 800)).copy())
    image = grey.convert(mode) if mode != "I;16" else Image.fromarray(np.asarray(grey).astype(np.uint16) << 8)
    exif = Image.Exif()
    if form != "GIF":
        exif[ExifTags.Base.Orientation] = orientation
    stream = io.BytesIO()
    image.save(stream, form, **({} if form == "GIF" else {"exif": exif}))
    full = decode(stream.getvalue(), "x")
    small = decode(stream.getvalue(), "x", within=100)
    assert small.mode == "RGB"
    assert max(small.size) == 100
    expected = np.asarray(full.resize(small.size)).astype(int)
    assert np.abs(np.asarray(small).astype(int) - expected).mean() < 3
    assert decode(stream.getvalue(), "x", within=800).tobytes() == full.tobytes()
