"""The check of shard folders: finds each kind of damage, all of it at once, and finds nothing in sound folders."""

import hashlib
import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.steps import shard, verify
from pcclip.data.format import DatasetInfo
from tests.helpers.shards import add, group_record, image_sample, write_dataset, write_embedded_shards

GROUPS, SIZE = 4, 3
Sample = dict[str, bytes]
INFO = {"kind": "images", "group_size": SIZE, "images": GROUPS * SIZE, "pairs": GROUPS * SIZE * (SIZE - 1)}


def options(folder: Path, **more: Any) -> verify.Verify:
    return verify.Verify(**{"shards": str(folder), "tokenizer": None, "workers": 0, **more})


def folder_of(tmp_path: Path, change: Callable[[list[Sample], list[dict[str, Any]]], None] | None = None) -> Path:
    """Two shards of two groups, after `change` had its way with the samples and their records."""
    records = [group_record(group, SIZE) for group in range(GROUPS)]
    samples = [image_sample(group, record) for group, record in enumerate(records)]
    if change is not None:
        change(samples, records)
        for sample, record in zip(samples, records, strict=False):
            if record:
                sample["json"] = json.dumps(record).encode()
    return write_dataset(tmp_path / "shards", [samples[:2], samples[2:]], INFO)


def problems(folder: Path, **more: Any) -> str:
    with pytest.raises(ValueError, match=r"things are wrong") as caught:
        options(folder, **more).run()
    return str(caught.value)


def test_a_sound_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options(folder_of(tmp_path)).run()
    printed = capsys.readouterr().out
    assert "nothing is wrong" in printed
    assert "groups 4, image places 12 of 12 images, ordered pairs 24" in printed
    assert "captions per image: mean 2.0" in printed
    assert "words per text: mean 8.0, median 8, 95 % up to 8, 8 to 8" in printed
    assert "longer side of images: mean 32.0" in printed
    assert "texts that name both: 24 (100.0%)" in printed
    assert "decoded images: 12 of 12" in printed


def test_what_the_shard_step_writes_is_sound(world: Path, tmp_path: Path) -> None:
    shard.Shard(
        captions=[str(world / "shapes/train/captions.jsonl")],
        output=str(tmp_path / "out"),
        differences=[str(world / "differences.jsonl")],
        groups_per_shard=2,
        workers=0,
    ).run()
    options(tmp_path / "out", strict=True, workers=2).run()


def swap(record: dict[str, Any], pair: int, **values: Any) -> None:
    record["pairs"][pair] |= values


def rename_member(sample: Sample, old: str, new: str) -> None:
    sample[new] = sample.pop(old)


CHANGES: list[tuple[str, Callable[[list[Sample], list[dict[str, Any]]], Any]]] = [
    (r"pair out of range: 1\n.*group 00000001: pair 2 is of images 1 and 3", lambda s, r: swap(r[1], 2, second=3)),
    (r"pair out of range: 1\n.*of images -1 and", lambda s, r: swap(r[1], 2, first=-1)),
    (r"pair with itself: 1\n.*pair 0 compares image 1", lambda s, r: swap(r[0], 0, first=1)),
    (r"empty text: 1\n.*group 00000003: pair 5", lambda s, r: swap(r[3], 5, text=" \n")),
    (r"group record: 1\n.*pair 5 needs whole", lambda s, r: swap(r[3], 5, first="0")),
    (r"group record: 1\n.*pair 5 needs whole", lambda s, r: swap(r[3], 5, text=None)),
    (r"group record: 1\n.*image 2 needs an `id`", lambda s, r: r[0]["images"][2].pop("id")),
    (r"group record: 1\n.*image 2 needs", lambda s, r: r[0]["images"][2].update(captions="a dog")),
    (r"group record: 1\n.*00000002: has no 'json'", lambda s, r: (s[2].pop("json"), r[2].clear())),
    (r"group record: 1\n.*00000002: not a group record", lambda s, r: (s[2].update(json=b"[1"), r[2].clear())),
    (r"group record: 1\n.*`images` must be a list", lambda s, r: r[2].update(images=[], pairs=[])),
    (r"duplicate id: 1\n.*image 1 has the id of another, 'g0i0'", lambda s, r: r[0]["images"][1].update(id="g0i0")),
    (r"duplicate id: 1\n.*'g0i0': another group has another", lambda s, r: r[3]["images"][1].update(id="g0i0")),
    (r"duplicate key: 1\n.*00001.tar: group 00000000", lambda s, r: s[3].update(__key__=b"00000000")),
    (r"empty caption: 1\n.*image 0 \(g2i0\)", lambda s, r: r[2]["images"][0].update(captions=[""])),
    (r"foreign member: 1\n.*00000000: 00.pickle", lambda s, r: s[0].update({"00.pickle": b"cos\nsystem"})),
    (r"foreign member: 1\n.*image 3.*beyond", lambda s, r: s[0].update({"03.png": s[0]["00.png"]})),
    (r"foreign member: 1\n.*is called jpg, but is png", lambda s, r: rename_member(s[0], "01.png", "01.jpg")),
    (r"foreign member: 1\n.*embeddings.npy", lambda s, r: s[0].update({"embeddings.npy": b"x"})),
    (r"missing image: 1\n.*00000003: image 2 is not there", lambda s, r: s[3].pop("02.png")),
    (r"unreadable image: 1\n.*00000003: image 2:", lambda s, r: s[3].update({"02.png": s[3]["02.png"][:60]})),
    (r"unreadable image: 1\n.*shards hold JPEG", lambda s, r: s[3].update({"02.png": GIF})),
]
GIF = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)


@pytest.mark.parametrize(("message", "change"), CHANGES, ids=range(len(CHANGES)))
def test_wrong_groups(
    tmp_path: Path, message: str, change: Callable[[list[Sample], list[dict[str, Any]]], Any]
) -> None:
    found = problems(folder_of(tmp_path, change))
    assert re.search(message, found), found


def test_all_problems_are_listed_at_once(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, lambda s, r: [swap(record, pair, text="") for record in r for pair in range(6)])
    (folder / "00000.tar").rename(folder / "stray.tar")
    found = problems(folder)
    for part in ("missing shard: 1", "foreign file: 1", "empty text: 12", "and 2 more", "count: 2"):
        assert part in found
    assert len(found.splitlines()) < 26


def test_a_flipped_byte_and_a_shard_cut_short(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    payload = bytearray((folder / "00000.tar").read_bytes())
    payload[-1] ^= 1
    (folder / "00000.tar").write_bytes(payload)
    assert "1 things are wrong\nsha256: 1\n" in problems(folder)
    (folder / "00001.tar").write_bytes((folder / "00001.tar").read_bytes()[:1500])
    found = problems(folder)
    assert "size: 1" in found
    assert "00001.tar: holds" in found or "damaged tar: 1" in found


@pytest.mark.parametrize("key", ["images", "pairs", "group_size"])
def test_wrong_counts(tmp_path: Path, key: str) -> None:
    folder = folder_of(tmp_path)
    description = json.loads((folder / "dataset.json").read_text())
    description[key] += 1
    description["shards"][0]["groups"] += 1
    (folder / "dataset.json").write_text(json.dumps(description))
    found = problems(folder)
    assert "count: 2" in found
    assert f"`{key}` is {INFO[key] + 1}, but the shards have {INFO[key]}" in found  # type: ignore[operator]
    assert "00000.tar: holds 2 groups, dataset.json says 3" in found


def test_a_link_is_a_foreign_member(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    path = folder / "00001.tar"
    with tarfile.open(path, "w") as tar:
        for name, payload in image_sample(2, group_record(2, SIZE)).items():
            if name != "__key__":
                add(tar, f"00000002.{name}", payload)
        link = tarfile.TarInfo("00000002.03.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    description = json.loads((folder / "dataset.json").read_text())
    content = path.read_bytes()
    description["shards"][1] |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "dataset.json").write_text(json.dumps(description))
    assert re.search(r"foreign member: 1\n.*00000002: 03.png", problems(folder))


def test_directions_are_reported_and_wrong_only_when_strict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(samples: list[Sample], records: list[dict[str, Any]]) -> None:
        # Pairs of a group of three: 01 02 10 12 20 21. The reverse of 12 goes to 02, so that 12 and 20 stand alone.
        swap(records[0], 5, first=0, second=2)
        swap(records[1], 0, text="the first is the second")
        swap(records[1], 2, text="the first is the second")

    folder = folder_of(tmp_path, change)
    found = problems(folder, strict=True)
    printed = capsys.readouterr().out
    assert "one-way pairs: 1 " in printed
    assert "texts equal to their reverse: 2 " in printed
    assert "one-way pairs: 1\n" in found
    assert "texts equal to their reverse: 1\n" in found
    options(folder).run()


@pytest.mark.parametrize(("decode", "expected"), [(None, 12), (0, 0), (4, 4), (1000, 12)])
def test_a_sample_of_images_is_decoded(
    tmp_path: Path, decode: int | None, expected: int, capsys: pytest.CaptureFixture[str]
) -> None:
    options(folder_of(tmp_path), decode=decode).run()
    assert f"decoded images: {expected} of 12" in capsys.readouterr().out


def embedded(tmp_path: Path, values: np.ndarray) -> Path:
    return write_embedded_shards(tmp_path / "embedded", values, "fingerprint", sizes=[2, 2])


def test_embeddings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = np.random.default_rng(0).normal(size=(4, 3, 8))
    values[0, 1] = np.nan  # a damaged image, as `embed` marks it
    options(embedded(tmp_path, values)).run()
    assert "embeddings of width 8, 1 of damaged images" in capsys.readouterr().out
    values[1, 0, 3], values[2, 2], values[3, 1, 0] = np.inf, 0, np.nan
    assert "embeddings: 3\n" in problems(embedded(tmp_path, values))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((3, 9)), "width 9, expected 8"),
        (np.ones((2, 8)), "(2, 8)"),
        (np.ones((3, 8), int), "int64"),
        (np.array([{}], object), "object"),
        (None, "embeddings.npy"),
    ],
)
def test_wrong_embeddings(tmp_path: Path, array: np.ndarray | None, message: str) -> None:
    folder, stream = embedded(tmp_path, np.ones((4, 3, 8))), io.BytesIO()
    if array is not None:
        np.save(stream, array, allow_pickle=True)
    sample = {
        "__key__": b"00000000",
        "embeddings.npy": stream.getvalue(),
        "json": json.dumps(group_record(0, 3)).encode(),
    }
    info = asdict(DatasetInfo.read(folder)) | {"images": 3, "pairs": 6}
    keys = ("kind", "group_size", "images", "pairs", "embedding")
    write_dataset(folder, [[sample]], {key: info[key] for key in keys})
    (folder / "00001.tar").unlink()
    found = problems(folder)
    assert "1 things are wrong\nembeddings: 1\n" in found
    assert message in found


def test_tokens_are_those_of_the_text_tower(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = "first second " * 45
    folder = folder_of(tmp_path, lambda s, r: swap(r[1], 0, text=long))
    options(folder, tokenizer="ViT-B-32").run()
    assert "texts longer than 77 tokens: 1 (4.2%)" in capsys.readouterr().out


def test_distribution() -> None:
    values = np.random.default_rng(0).integers(0, 50, 1001)
    words = verify.distribution(Counter(values.tolist()))
    expected = (round(values.mean(), 1), np.median(values), np.quantile(values, 0.95, method="inverted_cdf"))
    assert [float(number) for number in re.findall(r"[\d.]+", words)] == [*expected[:2], 95, expected[2], 0, 49]
