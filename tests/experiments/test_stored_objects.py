"""The split of embedded objects: rows stay with their embeddings, and test objects are in no training pair."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pcclip.experiments.stored_objects import split_objects


def write(folder: Path, groups: dict[str, str]) -> None:
    """Objects a to f, whose embeddings tell which they are, and pairs in groups."""
    folder.mkdir()
    pairs = [{"group": group, "first": pair[0], "second": pair[1]} for group, pair in groups.items()]
    for name, rows in (("objects", [{"id": name} for name in "abcdef"]), ("differences", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    np.save(folder / "images.npy", np.eye(6, dtype=np.float16))
    np.save(folder / "words.npy", np.eye(6, dtype=np.float16)[[0, 3]] + 5)  # far from the images
    (folder / "words.txt").write_text("big\nlittle\n")


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_test_objects_are_in_no_training_pair(tmp_path: Path) -> None:
    write(tmp_path / "all", {"g0": "eb", "g1": "bc", "g2": "ba"})
    for groups, train in ((["g2"], "bce"), (["g1", "g2"], "be")):  # the second replaces the first
        split_objects(str(tmp_path / "all"), str(tmp_path / "split"), groups)
        test = "".join(name for name in "abcdef" if name not in train)
        for name, ids in (("train", train), ("test", test)):
            assert [row["id"] for row in read(tmp_path / "split" / name / "objects.jsonl")] == list(ids)
            embeddings = np.load(tmp_path / "split" / name / "images.npy")
            assert embeddings.argmax(1).tolist() == ["abcdef".index(one) for one in ids]
        kept = read(tmp_path / "split/train/differences.jsonl")
        assert {row["group"] for row in kept} == {"g0", "g1", "g2"} - set(groups)
    words = read(tmp_path / "split/words/objects.jsonl")
    assert words == [{"id": word, "captions": [word, f"a photo of a {word}"]} for word in ("big", "little")]
    moved = np.array([[0.5, 0.5, 0, -0.5, 0.5, 0], [-0.5, 0.5, 0, 0.5, 0.5, 0]])  # around the mean of b and e
    assert np.load(tmp_path / "split/words/images.npy") == pytest.approx(moved)


@pytest.mark.parametrize(
    ("groups", "spoiled", "named"),
    [
        (["g9"], None, "differences.jsonl.*g9"),
        (["g0", "g1", "g2"], None, "0 of 6"),
        (["g0"], "images.npy", "images.npy: 5 .* 6"),
        (["g0"], "words.npy", "words.npy: 5 .* 2"),
    ],
)
def test_bad_folders_are_named(tmp_path: Path, groups: list[str], spoiled: str | None, named: str) -> None:
    write(tmp_path / "all", {"g0": "eb", "g1": "bc", "g2": "ba"})
    if spoiled is not None:
        np.save(tmp_path / "all" / spoiled, np.eye(5, dtype=np.float16))
    with pytest.raises(ValueError, match=named):
        split_objects(str(tmp_path / "all"), str(tmp_path / "split"), groups)
