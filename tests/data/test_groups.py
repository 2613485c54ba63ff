"""Groups are decoded from the formats we know alone; what is damaged is left out, said, and costs nothing else."""

import contextlib
import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from pcclip.data.damage import DamagedGroupError
from pcclip.data.groups import Group, ImageTransform, Sample, decode_group, read_groups, read_samples
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


def decode(members: dict[str, bytes], transform: ImageTransform | None = transform, **settings: Any) -> Group:
    """A group of three, decoded, with good pictures where `members` says nothing else."""
    made = {**image_sample(0, group_record(0, 3)), **members}
    kept = {name: value for name, value in made.items() if value != b"absent" and name != "__key__"}
    sample = Sample("a.tar: group 00000000", "00000000", kept)
    return decode_group(sample, sample.record(), transform, **settings)


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
    group = decode({"00.png": b"absent", f"00.{extension}": encoded(form)})
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
def test_damaged_image_costs_its_own_pairs(damage: bytes) -> None:
    group = decode({"01.png": damage})
    assert group.intact.tolist() == [True, False, True]
    assert [(pair["first"], pair["second"]) for pair in group.pairs] == [(0, 2), (2, 0)]
    assert group.images is not None
    assert group.images[1].count_nonzero() == 0
    ((reason, where, images),) = group.damaged
    assert reason == ("missing_image" if damage == b"absent" else "broken_image")
    assert where.startswith("a.tar: group 00000000: image 1")
    assert images == 1


def test_oversized_image_is_not_decoded() -> None:
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")  # 400 million pixels in 50 kB, above Pillow's own limit
    asked = []

    def watched(image: Image.Image) -> torch.Tensor:
        asked.append(image.size)
        return transform(image)

    group = decode({"00.png": bomb.getvalue(), "01.png": encoded("PNG")}, watched, max_pixels=200)
    assert group.intact.tolist() == [False, True, False]
    assert [damage.reason for damage in group.damaged] == ["oversized_image"] * 2
    assert "image 2 (32 x 32 pixels)" in group.damaged[1].where
    assert asked == [(8, 8)]


def test_group_without_any_readable_image_or_record_is_damaged() -> None:
    for members in (
        {f"{i:02d}.png": b"" for i in range(3)},
        {"json": b"absent"},
        {"json": b"{"},
    ):
        with pytest.raises(DamagedGroupError, match=r"a.tar: group 00000000"):
            decode(members)


def test_images_without_transform_are_refused(shards: Path) -> None:
    with pytest.raises(ValueError, match="shards"):
        next(read_groups(shards))


class Explosive:
    """Fails the test when unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a foreign member was unpickled",)


def test_foreign_members_are_never_decoded() -> None:
    bomb = pickle.dumps(Explosive())
    names = ("pyd", "pickle", "pth", "pt", "cls", "npz", "01.pyd", "00.pickle")
    group = decode(dict.fromkeys(names, bomb))
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
    huge = npy(np.ones((3, 4))).replace(b"(3, 4)", b"(3, 4" + b"0" * 20 + b")")
    for payload in (pickle.dumps(Explosive()), npy(objects), archive.getvalue(), b"", npy(np.full((3, 4), "a")), huge):
        with pytest.raises(DamagedGroupError, match=r"a.tar: group 00000000: embeddings .*\(embeddings.npy"):
            decode({"embeddings.npy": payload}, None)


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
        decode({"embeddings.npy": npy(np.ones(shape))}, None)


def survivors(shard: Path) -> Iterator[Group]:
    """What can be decoded of a shard of three groups."""
    for sample in read_samples(shard, 3):
        with contextlib.suppress(DamagedGroupError):
            yield decode_group(sample, sample.record(), transform)


@settings(max_examples=60, deadline=None)
@given(
    start=st.floats(0, 1),
    filling=st.none() | st.sampled_from([b"\0", b"\xff", b"garbage "]) | st.binary(min_size=1, max_size=64),
    record_first=st.booleans(),
)
def test_what_is_read_of_a_damaged_shard_is_true(
    tmp_path_factory: pytest.TempPathFactory, start: float, filling: bytes | None, record_first: bool
) -> None:
    records = [group_record(number, 4) for number in range(3)]
    samples = [image_sample(number, record) for number, record in enumerate(records)]
    if record_first:  # what follows it may be missing
        samples = [{"__key__": each["__key__"], "json": each.pop("json"), **each} for each in samples]
    shard = write_dataset(tmp_path_factory.mktemp("damaged") / "shards", [samples], INFO) / "00000.tar"
    content = shard.read_bytes()
    begin = int(start * len(content))
    if filling is not None:  # overwritten to its end, so that only reading finds it out
        begin = begin // 512 * 512
        shard.write_bytes(content[:begin] + (filling * len(content))[: len(content) - begin])
    else:
        shard.write_bytes(content[:begin])
    groups = list(survivors(shard))
    assert [group.key for group in groups] == sorted({group.key for group in groups})
    for group in groups:
        record = records[int(group.key)]
        lost = (~group.intact).nonzero().view(-1).tolist()
        assert group.captions == [image["captions"] for image in record["images"]]
        assert group.pairs == [pair for pair in record["pairs"] if not {pair["first"], pair["second"]} & {*lost}]
        assert group.images is not None
        for image in group.intact.nonzero().view(-1).tolist():
            expected = transform(Image.open(io.BytesIO(picture(4 * int(group.key) + image))))
            assert torch.equal(group.images[image], expected)


def test_shard_names_are_no_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_image_shards(tmp_path / "shards", groups=1, group_size=2, groups_per_shard=1)
    monkeypatch.chdir(folder)
    name = "pipe:touch ran"
    Path("00000.tar").rename(name)
    file = Path("dataset.json")
    file.write_text(file.read_text().replace("00000.tar", name))
    assert len(list(read_groups(".", transform))) == 1
    assert not Path("ran").exists()
