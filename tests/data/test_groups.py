"""Groups are decoded from the formats we know alone; what is damaged is left out, said, and costs nothing else."""

from __future__ import annotations

import io
import json
import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from pcclip.data.format import DamagedGroupError
from pcclip.data.groups import decode_group, read_groups
from tests.helpers.shards import (
    group_record,
    image_sample,
    picture,
    write_dataset,
    write_embedded_shards,
    write_image_shards,
)

INFO: dict[str, Any] = {"kind": "images", "group_size": 4, "images": 0, "pairs": 0}


def encoded(form: str) -> bytes:
    """One grey picture in a format."""
    stream = io.BytesIO()
    Image.new("L", (8, 8), 77).save(stream, form)
    return stream.getvalue()


def transform(image: Image.Image) -> torch.Tensor:
    return pil_to_tensor(image.convert("RGB").resize((8, 8)))


def sample(members: dict[str, bytes], size: int = 3) -> dict[str, Any]:
    """A sample as webdataset gives it, with good pictures where `members` says nothing else."""
    made: dict[str, Any] = {**image_sample(0, group_record(0, size)), "__key__": "00000000", "__url__": "a.tar"}
    made.update(members)
    return {key: value for key, value in made.items() if value != b"absent"}


def test_groups_come_back_whole_and_in_order(shards: Path) -> None:
    groups = list(read_groups(shards, transform))
    assert [group.key for group in groups] == [f"{number:08d}" for number in range(10)]
    for number, group in enumerate(groups):
        record = group_record(number, 4)
        assert group.ids == [image["id"] for image in record["images"]]
        assert group.captions == [image["captions"] for image in record["images"]]
        assert group.pairs == record["pairs"]
        assert group.intact.all()
        assert group.embeddings is None
        assert group.images is not None
        expected = [transform(Image.open(io.BytesIO(picture(4 * number + i)))) for i in range(4)]
        assert torch.equal(group.images, torch.stack(expected))


@pytest.mark.parametrize(("extension", "form"), [("jpg", "JPEG"), ("jpeg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")])
def test_known_formats_are_decoded(extension: str, form: str) -> None:
    group = decode_group(sample({"00.png": b"absent", f"00.{extension}": encoded(form)}), transform)
    assert group.images is not None
    assert group.intact.tolist() == [True] * 3
    assert (group.images[0].int() - 77).abs().max() <= 2


def test_groups_may_be_larger_than_a_hundred(tmp_path: Path) -> None:
    folder = write_image_shards(tmp_path / "large", groups=1, group_size=102, groups_per_shard=1)
    (group,) = read_groups(folder, transform)
    assert len(group.ids) == 102
    assert group.intact.all()


@pytest.mark.parametrize(
    "damage",
    [b"absent", b"", b"not a picture", picture(1)[:60], picture(1)[:30] + b"\0" * 40, encoded("GIF"), encoded("BMP")],
    ids=["absent", "empty", "text", "truncated", "overwritten", "gif", "bmp"],
)
def test_damaged_image_costs_its_own_pairs(damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    group = decode_group(sample({"01.png": damage}), transform)
    assert group.intact.tolist() == [True, False, True]
    assert [(pair["first"], pair["second"]) for pair in group.pairs] == [(0, 2), (2, 0)]
    assert group.images is not None
    assert group.images[1].count_nonzero() == 0
    assert "a.tar: group 00000000: image 1 cannot be read" in caplog.text


def test_decompression_bomb_is_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decode_group(sample({"00.png": encoded("PNG")}), transform).intact.tolist() == [True, False, False]


def test_group_without_any_readable_image_or_record_is_damaged() -> None:
    for members in (
        {f"{i:02d}.png": b"" for i in range(3)},
        {"json": b"absent"},
        {"json": b"{"},
    ):
        with pytest.raises(DamagedGroupError, match=r"a.tar: group 00000000"):
            decode_group(sample(members), transform)


def test_images_without_transform_are_refused() -> None:
    with pytest.raises(ValueError, match="no image transform was given"):
        decode_group(sample({}), None)


class Explosive:
    """Fails the test when unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a foreign member was unpickled",)


def test_foreign_members_are_never_decoded() -> None:
    bomb = pickle.dumps(Explosive())
    names = ("pyd", "pickle", "pth", "pt", "cls", "npz", "01.pyd", "00.pickle")
    group = decode_group(sample(dict.fromkeys(names, bomb)), transform)
    assert group.intact.all()


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def test_embedding_members_are_never_unpickled() -> None:
    archive = io.BytesIO()
    np.savez(archive, np.ones((3, 4)))
    objects = np.empty((3, 4), dtype=object)
    objects.fill(Explosive())
    for payload in (pickle.dumps(Explosive()), npy(objects), archive.getvalue(), b"", npy(np.full((3, 4), "a"))):
        with pytest.raises(DamagedGroupError, match=r"a.tar: group 00000000: embeddings.npy"):
            decode_group(sample({"embeddings.npy": payload}), None)


def test_embeddings_are_unit_and_damaged_rows_left_out(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(2, 3, 4))
    vectors[1, 2] = np.nan
    groups = list(read_groups(write_embedded_shards(tmp_path / "embedded", vectors, "f")))
    assert [group.intact.tolist() for group in groups] == [[True] * 3, [True, True, False]]
    assert [(pair["first"], pair["second"]) for pair in groups[1].pairs] == [(0, 1), (1, 0)]
    assert groups[0].images is None
    assert groups[0].embeddings is not None
    expected = torch.nn.functional.normalize(torch.from_numpy(vectors[0].astype(np.float16)).float(), dim=-1)
    torch.testing.assert_close(groups[0].embeddings, expected)


@pytest.mark.parametrize("shape", [(2, 4), (3,), (3, 4, 1)])
def test_embeddings_of_another_shape_are_damage(shape: tuple[int, ...]) -> None:
    with pytest.raises(DamagedGroupError, match=r"expected floats \(3, D\)"):
        decode_group(sample({"embeddings.npy": npy(np.ones(shape))}), None)


def damage_in_place(shard: Path, position: float, block: bytes) -> None:
    """Overwrite from a share of the file on, keeping its size, so that only reading finds it out."""
    content = bytearray(shard.read_bytes())
    start = int(len(content) * position) // 512 * 512
    size = min(len(block), len(content) - start)
    content[start : start + size] = block[:size]
    shard.write_bytes(bytes(content))


@pytest.mark.parametrize("block", [b"\0" * 10**6, b"\xff" * 10**6, b"garbage " * 10**5], ids=["zeros", "ones", "text"])
@pytest.mark.parametrize("position", [0, 0.2, 0.4, 0.6])
def test_overwritten_shard_ends_there_and_the_next_goes_on(
    shards: Path, caplog: pytest.LogCaptureFixture, block: bytes, position: float
) -> None:
    damage_in_place(shards / "00000.tar", position, block)
    groups = list(read_groups(shards, transform))
    keys = [int(group.key) for group in groups]
    assert keys[-6:] == [4, 5, 6, 7, 8, 9]
    assert len(keys) < 10
    assert keys == sorted(keys)
    for group in groups:
        # whatever is given out is true: pictures, texts and captions belong together
        record = group_record(int(group.key), 4)
        assert group.captions == [image["captions"] for image in record["images"]]
        assert all(pair in record["pairs"] for pair in group.pairs)
    assert "00000.tar" in caplog.text
    unreachable = [r for r in caplog.records if "cannot be reached" in r.message or "damaged shard" in r.message]
    assert 1 <= len(unreachable) <= 2


@pytest.mark.parametrize("cut", range(512, 14 * 512, 700))
def test_truncated_shard_gives_no_partial_group_as_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, cut: int
) -> None:
    # Members in an order where the record comes first: what follows it may be missing.
    samples = []
    for number in range(2):
        made = image_sample(number, group_record(number, 4))
        samples.append({"__key__": made["__key__"], "json": made.pop("json"), **made})
    folder = write_dataset(tmp_path / "cut", [samples, samples], INFO)
    shard = folder / "00000.tar"
    content = shard.read_bytes()
    listed = json.loads((folder / "dataset.json").read_text())
    shard.write_bytes(content[:-cut])
    listed["shards"][0]["bytes"] -= cut
    (folder / "dataset.json").write_text(json.dumps(listed))
    with caplog.at_level(logging.WARNING):
        groups = list(read_groups(folder, transform))
    whole = sum(bool(group.intact.all()) for group in groups)
    for group in groups:
        lost = [i for i, ok in enumerate(group.intact) if not ok]
        assert all(pair["first"] not in lost and pair["second"] not in lost for pair in group.pairs)
        if group.intact.all():
            assert group.pairs == group_record(int(group.key), 4)["pairs"]
    assert [group.key for group in groups[-2:]] == ["00000000", "00000001"]
    assert all(group.intact.all() for group in groups[-2:])
    if whole < 4:
        assert "00000.tar" in caplog.text


def test_shard_names_are_no_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_image_shards(tmp_path / "shards", groups=1, group_size=2, groups_per_shard=1)
    monkeypatch.chdir(folder)
    name = "pipe:touch ran"
    Path("00000.tar").rename(name)
    file = Path("dataset.json")
    file.write_text(file.read_text().replace("00000.tar", name))
    assert len(list(read_groups(".", transform))) == 1
    assert not Path("ran").exists()
