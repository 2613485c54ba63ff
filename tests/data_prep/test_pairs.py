"""Dealing: groups of G, no pair twice, the same for the same seed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep import pairs
from tests.data_prep.conftest import Rows

Read = Callable[[Path], Rows]
Write = Callable[[str, Rows], Path]


def deal(number: int, **options: int) -> Rows:
    return list(pairs.deal([f"i{index}" for index in range(number)], pairs.Options(**options)))  # type: ignore[arg-type]


def test_no_unordered_pair_comes_twice_over_rounds() -> None:
    rows = deal(12, group_size=6, rounds=20, pairs_per_group=9)
    drawn = Counter(frozenset((row["first"], row["second"])) for row in rows)
    assert max(drawn.values()) == 1
    assert len(drawn) > 60  # of 66 possible: later rounds take what earlier ones left
    assert all(row["first"] != row["second"] for row in rows)
    assert len({row["pair_id"] for row in rows}) == len(rows)


def test_groups_have_the_right_size_and_share_no_image_within_a_round() -> None:
    members: dict[str, set[str]] = defaultdict(set)
    rows = deal(40, group_size=8, pairs_per_group=28)
    for row in rows:
        members[row["group"]] |= {row["first"], row["second"]}
    assert [len(group) for group in members.values()] == [8] * 5
    assert len(set.union(*members.values())) == 40
    assert set(Counter(row["group"] for row in rows).values()) == {28}


def test_left_over_images() -> None:
    assert {len({row[side] for row in deal(10, group_size=4) for side in ("first", "second")})} == {10}  # 4 + 4 + 2
    assert {row[side] for row in deal(9, group_size=4) for side in ("first", "second")} < {f"i{i}" for i in range(9)}


def test_both_orders_occur() -> None:
    rows = deal(16, group_size=16, pairs_per_group=120)
    ascending = sum(row["pair_id"].split("-")[1] < row["pair_id"].split("-")[2] for row in rows)
    assert 40 < ascending < 80


def test_seed_decides() -> None:
    assert deal(20, seed=1) == deal(20, seed=1) != deal(20, seed=2)


def test_run_writes_pairs_and_restarts(
    world: Path, tmp_path: Path, read: Read, capsys: pytest.CaptureFixture[str]
) -> None:
    captions = world / "shapes/train/captions.jsonl"
    options = pairs.Options(str(captions), str(tmp_path / "pairs.jsonl"), group_size=8, pairs_per_group=20)
    pairs.run(options)
    assert (tmp_path / "pairs.jsonl").read_bytes() == (world / "pairs.jsonl").read_bytes()
    ids = {row["id"] for row in read(captions)}
    assert all({row["first"], row["second"]} <= ids for row in read(tmp_path / "pairs.jsonl"))
    pairs.run(options)
    assert "up to date" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([{"id": "a", "file": "a.png", "captions": []}], {}, r"1 image\(s\), but a pair needs two"),
        ([{"id": "a", "file": "a.png"}], {}, r"c.jsonl, line 1: `captions` must be a list, the key is missing"),
        ([{"id": 3, "file": "a.png", "captions": []}], {}, r"line 1: `id` must be a str, found 3"),
        ([{"id": "a", "file": "a", "captions": []}] * 2, {}, r"line 2: image id 'a' was already used in line 1"),
        ([], {"group_size": 1}, r"pairs.group_size must be at least 2, found 1"),
    ],
)
def test_bad_input(write: Write, tmp_path: Path, rows: Rows, options: dict[str, int], message: str) -> None:
    captions = write("c.jsonl", rows)
    with pytest.raises(ValueError, match=message):
        pairs.run(pairs.Options(str(captions), str(tmp_path / "p.jsonl"), **options))
    assert not (tmp_path / "p.jsonl").exists()


def test_torn_json_names_the_line(tmp_path: Path) -> None:
    captions = tmp_path / "c.jsonl"
    captions.write_text('{"id": "a", "file": "a.png", "captions": []}\n{"id": "b", "fi')
    with pytest.raises(ValueError, match=r"c.jsonl, line 2: not valid JSON"):
        pairs.run(pairs.Options(str(captions), str(tmp_path / "p.jsonl")))
