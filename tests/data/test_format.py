"""`dataset.json` and group records: what is written is read, and what is wrong is refused with its name."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcclip.data.damage import DamagedGroupError
from pcclip.data.format import DatasetInfo, EmbeddingInfo, ShardInfo
from pcclip.data.record import parse_group
from tests.helpers.shards import group_record, write_image_shards


def change(folder: Path, **entries: Any) -> None:
    """Change entries of a folder's dataset.json."""
    file = folder / "dataset.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))


@pytest.mark.parametrize("kind", ["images", "embeddings"])
def test_description_survives_writing_and_reading(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.tar").write_bytes(b"12345")
    embedding = EmbeddingInfo("ViT-L-14", 768, "ab" * 32) if kind == "embeddings" else None
    info = DatasetInfo(kind, 16, 48, 96, [ShardInfo("a.tar", 3, 5, "cd" * 32)], embedding, {"seed": 0})  # type: ignore[arg-type]
    info.write(tmp_path)
    assert DatasetInfo.read(tmp_path) == info
    assert info.groups == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "dataset.json"]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            {"version": 2},
            r"dataset.json: shard format version 2, but this pcclip reads version 1; make the shards again",
        ),
        ({"shards": []}, r"dataset.json: lists no group; the shard folder is empty"),
        ({"shards": [{"name": "00000.tar"}]}, r"dataset.json: .*shards\.0\.groups"),
        ({"shards": None}, r"dataset.json: .*shards"),
        ({"colour": "red"}, r"dataset.json: .*colour"),
        ({"pairs": "24"}, r"dataset.json: .*pairs"),
        ({"images": -1}, r"dataset.json: .*images"),
        ({"kind": "pictures"}, r"dataset.json: .*kind"),
        ({"kind": "embeddings"}, r"dataset.json: kind 'embeddings' with embedding None"),
    ],
)
def test_description_that_does_not_fit_is_refused(shards: Path, entries: dict[str, Any], message: str) -> None:
    change(shards, **entries)
    with pytest.raises(ValueError, match=message):
        DatasetInfo.read(shards)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"{}", b"\xff\xfe\x00"])
def test_file_that_is_no_description_is_refused(shards: Path, content: bytes) -> None:
    (shards / "dataset.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"dataset.json: not a dataset description"):
        DatasetInfo.read(shards)


def test_what_is_not_there_or_elsewhere_is_named(shards: Path, tmp_path: Path) -> None:
    def refused(error: type[Exception], message: str, folder: Path = shards) -> None:
        with pytest.raises(error, match=message):
            DatasetInfo.read(folder)

    refused(FileNotFoundError, "nowhere: shard folder not found", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    refused(FileNotFoundError, r"empty/dataset.json: not found, .*pcclip-data shard", tmp_path / "empty")
    shard = shards / "00001.tar"
    shard.write_bytes(shard.read_bytes()[:-100])
    refused(ValueError, r"00001.tar: \d+ bytes, but .*dataset.json says \d+; the copy is incomplete")
    shard.unlink()
    refused(FileNotFoundError, r"00001.tar: shard named in .*dataset.json is missing")
    other = write_image_shards(tmp_path / "other", groups=1, group_size=2, groups_per_shard=1)
    listed = json.loads((other / "dataset.json").read_text())["shards"][0]
    for name in ("../other/00000.tar", str(other / "00000.tar")):
        change(shards, shards=[{**listed, "name": name}])
        refused(ValueError, "is not a file name")


def test_group_record_is_read_as_written() -> None:
    record = group_record(0, 3)
    assert parse_group(json.dumps({**record, "extra": 1}).encode(), "here") == record


def test_unreadable_record_is_damage_not_a_mistake() -> None:
    for payload in (b"", b'{"images": [', b"\xff\xfe", b"[" * 10**5):
        with pytest.raises(DamagedGroupError, match=r"a.tar: group 7: a .json that is not JSON"):
            parse_group(payload, "a.tar: group 7")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"pairs": [{"first": 0, "second": 3, "text": "x"}]}, "pair 0 .* 0 and 3"),
        ({"pairs": [{"first": -1, "second": 1, "text": "x"}]}, "pair 0 .* -1 and 1"),
        ({"pairs": [{"first": 1, "second": 1, "text": "x"}]}, "pair 0 .* image 1 "),
        ({"pairs": [{"first": 0, "second": 1, "text": "\n "}]}, "pair 0 .*`pcclip-data screen`"),
        ({"pairs": [{"first": 0, "second": 1}]}, "pair 0 .*`text`"),
        ({"pairs": None}, "not a group record"),
        ({"images": []}, "not a group record"),
        ({"images": [{"id": "a"}]}, "image 0 .*`captions`"),
        ({"images": [{"id": "a", "captions": "a dog"}]}, "image 0 .*`captions`"),
    ],
)
def test_wrong_record_is_refused_with_its_place(entries: dict[str, Any], message: str) -> None:
    payload = json.dumps({**group_record(0, 3), **entries}).encode()
    with pytest.raises(ValueError, match=rf"a.tar: group 7: .*{message}") as caught:
        parse_group(payload, "a.tar: group 7")
    assert not isinstance(caught.value, DamagedGroupError)


VALUES = st.sampled_from([0, 1, 2, -1, True, "0", "", " ", "a", None, [], ["x"], ["", "y"], [1], {}])
IMAGES = st.lists(st.fixed_dictionaries({"id": VALUES}, optional={"captions": VALUES}) | VALUES, max_size=3)
PAIRS = st.lists(st.fixed_dictionaries({"first": VALUES, "second": VALUES, "text": VALUES}) | VALUES, max_size=3)


@given(st.fixed_dictionaries({"images": IMAGES | VALUES, "pairs": PAIRS | VALUES}) | VALUES)
def test_any_record_is_sound_or_refused(record: Any) -> None:
    try:
        found = parse_group(json.dumps(record).encode(), "here")
    except ValueError:
        return
    places = range(len(found["images"]))
    assert all(pair["first"] in places and pair["second"] in places for pair in found["pairs"])
    assert all(isinstance(pair["text"], str) and pair["text"].strip() for pair in found["pairs"])
