"""Texts about classes go to other pictures of the same classes, group by group."""

import json
from pathlib import Path

import pytest

from data_prep.steps import transfer
from tests.data_prep.conftest import Read, Rows, Write

CLASSES = ("cat", "dog", "bus", "owl")


def captioned(prefix: str, per_class: int) -> Rows:
    return [
        {"id": f"{prefix}_{name}{index}", "file": "none.jpg", "captions": [f"a photo of a {name}"]}
        for name in CLASSES
        for index in range(per_class)
    ]


def pair(group: str, first: str, second: str) -> dict[str, str]:
    kinds = [name.split("_")[1].rstrip("0123456789") for name in (first, second)]
    return {
        "pair_id": f"{group}-{first}-{second}",
        "group": group,
        "first": first,
        "second": second,
        "text": f"The first is a {kinds[0]}, the second a {kinds[1]}.",
        "reverse_text": f"The first is a {kinds[1]}, the second a {kinds[0]}.",
    }


@pytest.fixture
def options(tmp_path: Path, write: Write) -> transfer.Transfer:
    """Three groups, each with all pairs of a cat, a dog, a bus and two owls, to go to 20 pictures of each class."""
    members = ["cat", "dog", "bus", "owl", "owl"]
    rows = []
    for number in range(3):
        ids = [f"old_{name}{number + place // 4}" for place, name in enumerate(members)]
        rows += [pair(f"g{number}", a, b) for i, a in enumerate(ids) for b in ids[i + 1 :]]
    return transfer.Transfer(
        differences=str(write("differences.jsonl", rows)),
        captions=str(write("old.jsonl", captioned("old", 5))),
        to_captions=str(write("new.jsonl", captioned("new", 20))),
        output=str(tmp_path / "out/new_differences.jsonl"),
    )


def classes(rows: Rows) -> list[tuple[str, str]]:
    kinds = [[row[side].split("_")[1].rstrip("0123456789") for side in ("first", "second")] for row in rows]
    return [(first, second) for first, second in kinds]


def test_texts_and_groups_stay_and_pictures_are_others_of_the_same_class(
    options: transfer.Transfer, tmp_path: Path, read: Read
) -> None:
    options.run()
    before, after = read(tmp_path / "differences.jsonl"), read(Path(options.output))
    for key in ("pair_id", "group", "text", "reverse_text"):
        assert [row[key] for row in after] == [row[key] for row in before]
    assert classes(after) == classes(before)
    assert all(row[side].startswith("new_") for row in after for side in ("first", "second"))
    manifest = json.loads(Path(options.output + ".manifest.json").read_text())
    assert manifest["counts"] == {"pairs": 30}


def test_within_a_group_one_picture_gives_way_to_one_and_never_two_to_the_same(
    options: transfer.Transfer, tmp_path: Path, read: Read, write: Write
) -> None:
    # With two owls to choose from, drawing each on its own would give both places to one owl in half of the groups.
    write("new.jsonl", captioned("new", 2))
    for options.seed in range(5):
        options.run()
        places: dict[str, dict[str, set[str]]] = {}
        for old, new in zip(read(tmp_path / "differences.jsonl"), read(Path(options.output)), strict=True):
            assert new["first"] != new["second"]
            for side in ("first", "second"):
                places.setdefault(old["group"], {}).setdefault(old[side], set()).add(new[side])
        for group in places.values():
            assert [len(chosen) for chosen in group.values()] == [1] * 5
            assert len(set.union(*group.values())) == 5


def test_groups_draw_on_their_own_and_only_matching_ones_are_taken(
    options: transfer.Transfer, tmp_path: Path, read: Read, write: Write
) -> None:
    rows = [pair(f"g{number}", "old_cat0", "old_dog0") for number in range(40)]
    write("differences.jsonl", rows)
    options.run()
    assert len({row["first"] for row in read(Path(options.output))}) > 10
    options.groups = "g[02]"
    options.run()
    assert {row["group"] for row in read(Path(options.output))} == {"g0", "g2"}


def test_a_class_without_enough_pictures_is_named(options: transfer.Transfer, write: Write) -> None:
    write("new.jsonl", [row for row in captioned("new", 2) if "bus" not in row["id"]])
    with pytest.raises(ValueError, match=r"differences.jsonl, line 2: .*new.jsonl.*'a photo of a bus'"):
        options.run()
    write("new.jsonl", captioned("new", 1))
    with pytest.raises(ValueError, match=r"line 4: .*new.jsonl.*'a photo of a owl'.*'old_owl1'"):
        options.run()
    assert not Path(options.output).exists()


def test_bad_rows_are_named(options: transfer.Transfer, write: Write) -> None:
    write("differences.jsonl", [pair("g0", "old_cat0", "old_dog0"), pair("g0", "old_cat0", "lost_dog0")])
    with pytest.raises(ValueError, match=r"differences.jsonl, line 2: .*'lost_dog0'.*old.jsonl"):
        options.run()
    write("differences.jsonl", [])
    with pytest.raises(ValueError, match=r"differences.jsonl: transfer.groups"):
        options.run()
    write("differences.jsonl", [{"pair_id": "p", "group": "g", "first": "old_cat0", "second": "old_dog0", "text": "t"}])
    with pytest.raises(ValueError, match=r"line 1: `reverse_text`"):
        options.run()
