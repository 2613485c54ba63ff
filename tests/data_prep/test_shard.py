"""Group shards: what goes in comes out, the same bytes every time, and clear words about bad input."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset as wds
from PIL import Image

from data_prep.manifest import Manifest
from data_prep.partial import FinishedShard
from data_prep.steps import shard
from data_prep.steps.shard import Packing
from pcclip.data.format import DatasetInfo
from pcclip.data.record import GroupRecord, parse_group
from tests.data_prep.conftest import Read, Rows, Write


def samples(folder: Path) -> list[dict[str, Any]]:
    """All samples as webdataset itself reads them."""
    urls = [str(folder / info.name) for info in DatasetInfo.read(folder).shards]
    return list(wds.WebDataset(urls, shardshuffle=False, empty_check=False))


def records(folder: Path) -> list[GroupRecord]:
    return [parse_group(sample["json"], sample["__key__"]) for sample in samples(folder)]


@pytest.fixture
def options(world: Path, tmp_path: Path) -> shard.Shard:
    return shard.Shard(
        captions=[str(world / "shapes/train/captions.jsonl")],
        output=str(tmp_path / "shards"),
        differences=[str(world / "differences.jsonl")],
        groups_per_shard=4,
        workers=0,
    )


def test_round_trip(world: Path, options: shard.Shard, read: Read) -> None:
    options.run()
    folder = Path(options.output)
    info = DatasetInfo.read(folder)
    differences = read(world / "differences.jsonl")
    found = (info.kind, info.group_size, info.groups, info.images, info.pairs)
    assert found == ("images", 8, 6, 48, 2 * len(differences))
    assert [entry.groups for entry in info.shards] == [4, 2]
    sources = {row["id"]: row for row in read(world / "shapes/train/captions.jsonl")}
    texts = {}
    for key, sample in enumerate(samples(folder)):
        assert sample["__key__"] == f"{key:08d}"
        record = parse_group(sample["json"], sample["__key__"])
        for index, image in enumerate(record["images"]):
            source = sources[image["id"]]
            assert image["captions"] == source["captions"]
            assert sample[f"{index:02d}.png"] == (world / "shapes/train" / source["file"]).read_bytes()
        for pair in record["pairs"]:
            names = [record["images"][pair[side]]["id"] for side in ("first", "second")]
            texts[tuple(names)] = pair["text"]
    expected = {(row["first"], row["second"]): row["text"] for row in differences}
    expected |= {(row["second"], row["first"]): row["reverse_text"] for row in differences}
    assert texts == expected


def test_same_input_same_bytes(options: shard.Shard, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options.run()
    options.run()
    assert "up to date" in capsys.readouterr().out
    options.output = str(tmp_path / "again")
    options.run()
    first = content(tmp_path / "shards")
    assert content(tmp_path / "again") == first
    assert (tmp_path / "shards.manifest.json").read_text() == (tmp_path / "again.manifest.json").read_text()
    options.seed = 1
    options.run()
    assert content(tmp_path / "again")["000000.tar"] != first["000000.tar"]


def test_deleted_and_old_shards(options: shard.Shard) -> None:
    options.run()
    (Path(options.output) / "000001.tar").unlink()
    options.run()
    assert DatasetInfo.read(options.output).groups == 6
    options.groups_per_shard = 100
    options.run()
    assert sorted(path.name for path in Path(options.output).iterdir()) == ["000000.tar", "dataset.json"]


def names(options: shard.Shard) -> set[str]:
    return {image["id"] for record in records(Path(options.output)) for image in record["images"]}


def test_groups_are_chosen_by_patterns(options: shard.Shard, world: Path, read: Read) -> None:
    members: dict[str, set[str]] = {}
    for row in read(world / "differences.jsonl"):
        members.setdefault(row["group"], set()).update((row["first"], row["second"]))
    options.groups_include = ["r0g0000{1..3}"]
    options.groups_exclude = ["*2"]
    options.run()
    assert names(options) == members["r0g00001"] | members["r0g00003"]


def test_unpaired_images_are_those_of_no_group_at_all(
    options: shard.Shard, world: Path, read: Read, write: Write
) -> None:
    rows = [row for row in read(world / "differences.jsonl") if row["group"] != "r0g00000"]
    excluded = {row[side] for row in rows if row["group"] == "r0g00001" for side in ("first", "second")}
    options.differences = [str(write("d.jsonl", rows))]
    options.groups_exclude = ["r0g00001"]
    options.unpaired, options.group_size = True, 5
    options.run()
    everything = {row["id"] for row in read(world / "shapes/train/captions.jsonl")}
    assert names(options) == everything - excluded
    sizes = sorted(len(record["images"]) for record in records(Path(options.output)) if not record["pairs"])
    assert sizes == [3, 5]


def test_captions_alone(options: shard.Shard) -> None:
    options.differences, options.unpaired = [], True
    options.run()
    assert DatasetInfo.read(options.output).pairs == 0
    assert len(names(options)) == 48


def test_several_sources_with_equal_group_names(
    options: shard.Shard, world: Path, tmp_path: Path, read: Read, write: Write
) -> None:
    val = world / "shapes/val"
    rows = [{**row, "file": str(val / row["file"])} for row in read(val / "captions.jsonl")]
    pair = {"pair_id": "x", "group": "r0g00000", "first": rows[0]["id"], "second": rows[1]["id"]}
    options.captions.append(str(write("val.jsonl", rows)))
    options.differences.append(str(write("more.jsonl", [{**pair, "text": "one", "reverse_text": "other"}])))
    options.run()
    assert sorted(len(record["images"]) for record in records(tmp_path / "shards")) == [2, 8, 8, 8, 8, 8, 8]


def test_unreadable_images_go_out_with_their_pairs(
    tmp_path: Path, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "abc":
        Image.new("RGB", (4, 4), (ord(name), 0, 0)).save(tmp_path / f"{name}.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:40])
    captions = write("c.jsonl", [{"id": name, "file": f"{name}.png", "captions": [name]} for name in "abc"])
    ids = [{"pair_id": pair, "group": "g", "first": pair[0], "second": pair[1]} for pair in ("ab", "bc", "ac")]
    rows = [{**row, "text": row["pair_id"], "reverse_text": row["pair_id"][::-1]} for row in ids]
    shard.Shard(captions=[str(captions)], output=str(tmp_path / "out"), differences=[str(write("d.jsonl", rows))]).run()
    (record,) = records(tmp_path / "out")
    assert [image["id"] for image in record["images"]] == ["a", "c"]
    assert [(pair["first"], pair["second"], pair["text"]) for pair in record["pairs"]] == [(0, 1, "ac"), (1, 0, "ca")]
    manifest = json.loads((tmp_path / "out.manifest.json").read_text())
    assert manifest["counts"]["unreadable"] == 1
    assert "b.png" in manifest["left_out"]["unreadable"][0]
    assert "left out 1 images" in capsys.readouterr().out


@pytest.mark.parametrize("checked", [True, False])
def test_an_image_replaced_by_another_of_equal_size_is_noticed(tmp_path: Path, write: Write, checked: bool) -> None:
    rows: Rows = []
    for name in "ab":
        file = tmp_path / f"{name}.bmp"
        Image.new("RGB", (4, 4), (ord(name), 0, 0)).save(file)
        sha256 = {"sha256": hashlib.sha256(file.read_bytes()).hexdigest()} if checked else {}
        rows.append({"id": name, "file": file.name, "captions": [name], **sha256})
    options = shard.Shard(
        captions=[str(write("c.jsonl", rows))], output=str(tmp_path / "out"), unpaired=True, workers=0
    )
    if not checked:
        options.run()
        before = content(tmp_path / "out")
    Image.new("RGB", (4, 4), (200, 0, 0)).save(tmp_path / "b.bmp")
    options.run()
    manifest = json.loads((tmp_path / "out.manifest.json").read_text())
    assert manifest["counts"]["unreadable"] == checked
    if checked:
        assert "b.bmp" in manifest["left_out"]["unreadable"][0]
    else:
        assert content(tmp_path / "out")["000000.tar"] != before["000000.tar"]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_do_not_change_a_byte(options: shard.Shard, tmp_path: Path, workers: int) -> None:
    options.groups_per_shard, options.resize = 1, 24  # smaller than the pictures, so that each is encoded again
    options.run()
    options.output, options.workers = str(tmp_path / "parallel"), workers
    options.run()
    assert content(tmp_path / "parallel") == content(tmp_path / "shards")
    assert len(content(tmp_path / "shards")) == 7


def test_an_interrupted_run_is_continued(options: shard.Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options.groups_per_shard, options.resize = 1, 24
    options.run()
    written: list[str] = []
    pack_one = Packing.write_shard

    def until_the_fourth(packing: Packing, job: Any) -> FinishedShard:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(job[0])
        return pack_one(packing, job)

    again = replace(options, output=str(tmp_path / "again"))
    monkeypatch.setattr(Packing, "write_shard", until_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        again.run()
    assert not (tmp_path / "again").exists()
    # A shard that was damaged meanwhile and a record torn by a power cut do not count as finished.
    (tmp_path / "again.partial/shards" / written[0]).write_bytes(b"cut short")
    (tmp_path / "again.partial/records" / (written[1] + ".json")).write_text('{"shard": {"na')
    continued: list[str] = []
    monkeypatch.setattr(Packing, "write_shard", lambda packing, job: continued.append(job[0]) or pack_one(packing, job))
    again.run()
    assert continued == [f"{number:06d}.tar" for number in (0, 1, 3, 4, 5)]
    assert content(tmp_path / "again") == content(tmp_path / "shards")
    assert not (tmp_path / "again.partial").exists()


@pytest.mark.parametrize(("of", "name"), [(DatasetInfo, "write"), (Manifest, "write"), (Path, "replace")])
def test_a_kill_between_finishing_and_renaming_costs_no_shard(
    options: shard.Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: Any, name: str
) -> None:
    options.groups_per_shard = 1
    replace(options, output=str(tmp_path / "whole")).run()
    do = getattr(of, name)

    def die(self: Any, *arguments: Any, **more: Any) -> Any:
        if of is not Path or self.name == "shards":
            raise KeyboardInterrupt
        return do(self, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(of, name, die)
        with pytest.raises(KeyboardInterrupt):
            options.run()
    (tmp_path / "shards.partial/shards/.000001.1-0a0a0a0a.tmp.tar").touch()  # of a worker that was killed
    monkeypatch.setattr(Packing, "write_shard", lambda *_: 1 / 0)
    options.run()
    assert content(tmp_path / "shards") == content(tmp_path / "whole")
    assert not (tmp_path / "shards.partial").exists()


def test_parts_are_the_shards_of_the_whole(options: shard.Shard, tmp_path: Path) -> None:
    options.groups_per_shard = 1
    options.run()
    whole = content(tmp_path / "shards")
    parts: dict[str, bytes] = {}
    for part in ("1/4", "2/4", "3/4", "4/4"):
        folder = tmp_path / part[0]
        replace(options, output=str(folder), part=part).run()
        assert DatasetInfo.read(folder).groups in (1, 2)
        parts |= {name: payload for name, payload in content(folder).items() if name != "dataset.json"}
    del whole["dataset.json"]
    assert parts == whole
    with pytest.raises(ValueError, match=r"shard.part: 7/7"):
        replace(options, output=str(tmp_path / "none"), part="7/7").run()


def test_other_options_do_not_continue_an_interrupted_run(
    options: shard.Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options.groups_per_shard, options.resize = 1, 24
    with monkeypatch.context() as patch:
        patch.setattr(DatasetInfo, "write", lambda *_: 1 / 0)  # all shards are finished
        with pytest.raises(ZeroDivisionError):
            options.run()
    assert len(list((tmp_path / "shards.partial/records").glob("*.tar.json"))) == 6
    options.quality = 30
    options.run()
    replace(options, output=str(tmp_path / "new")).run()
    assert content(tmp_path / "shards") == content(tmp_path / "new")


def test_answers_in_any_order_give_the_same_shards(options: shard.Shard, world: Path, read: Read, write: Write) -> None:
    rows = [{**row, "key": row["pair_id"]} for row in read(world / "differences.jsonl")]
    options.differences = [str(write("d.jsonl", rows))]
    options.run()
    before = {info.name: info.sha256 for info in DatasetInfo.read(options.output).shards}
    write("d.jsonl", [rows[index] for index in np.random.default_rng(0).permutation(len(rows))])
    options.run()
    assert {info.name: info.sha256 for info in DatasetInfo.read(options.output).shards} == before


def test_rows_without_a_key_keep_their_order(options: shard.Shard, world: Path, read: Read, write: Write) -> None:
    rows = [row for row in read(world / "differences.jsonl") if row["group"] == "r0g00000"][::-1]
    options.differences = [str(write("d.jsonl", rows))]
    options.run()
    (record,) = records(Path(options.output))
    assert [pair["text"] for pair in record["pairs"][::2]] == [row["text"] for row in rows]


def test_a_shard_without_one_readable_image_is_left_out(tmp_path: Path, write: Write) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    captions = write("c.jsonl", [{"id": name, "file": f"{name}.png", "captions": [name]} for name in "abc"])
    options = shard.Shard(
        captions=[str(captions)], output=str(tmp_path / "out"), unpaired=True, group_size=1, groups_per_shard=1
    )
    options.workers = 0
    options.run()
    info = DatasetInfo.read(tmp_path / "out")
    assert (info.groups, info.images, len(info.shards)) == (1, 1, 1)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([info.shards[0].name, "dataset.json"])
    assert info.made_by["counts"]["unreadable"] == 2


GOOD = {"pair_id": "p", "group": "g", "first": "a", "second": "b", "text": "t", "reverse_text": "r"}


@pytest.mark.parametrize(
    ("change", "more", "message"),
    [
        ({"second": "z"}, {}, r"d.jsonl, line 1: `second` is 'z', which no captions file has"),
        ({"second": "a"}, {}, r"d.jsonl, line 1: image 'a' is paired with itself"),
        ({"reverse_text": "  "}, {}, r"d.jsonl, line 1: `reverse_text` is empty"),
        ({"text": None}, {}, r"d.jsonl, line 1: `text` must be a str, found None"),
        ({}, {"groups_include": ["h*"]}, r"shard.groups_include: 'h\*'"),
        ({}, {"groups_include": ["g{0"]}, r"shard.groups_include: .*g\{0"),
        ({}, {"groups_exclude": ["g"]}, r"no groups to pack"),
        ({}, {"captions": ["c.jsonl", "c.jsonl"]}, r"c.jsonl, line \d: `id` '[ab]' .*c.jsonl, line \d"),
        ({}, {}, r"not one image could be read, the first because .*a.png"),
    ],
)
def test_bad_input(tmp_path: Path, write: Write, change: dict[str, Any], more: dict[str, Any], message: str) -> None:
    write("c.jsonl", [{"id": name, "file": f"{name}.png", "captions": []} for name in "ab"])
    differences = write("d.jsonl", [{**GOOD, **change}])
    files = [str(tmp_path / name) for name in more.pop("captions", ["c.jsonl"])]
    with pytest.raises(ValueError, match=message):
        shard.Shard(captions=files, output=str(tmp_path / "out"), differences=[str(differences)], **more).run()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.jsonl", "d.jsonl"]
