"""The batches: true pairs, reproducible draws, and a fair and complete deal to ranks, whatever is damaged."""

import pickle
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from pcclip.batch import PairBatch
from pcclip.data.collate import MEANINGFUL, Draw, drop_words
from pcclip.data.damage import DamageTally
from pcclip.data.folders import ShardFolder
from pcclip.data.loader import EpochLoader
from pcclip.data.stream import PairBatches
from pcclip.model import DifferenceCLIP
from tests.helpers.batches import same
from tests.helpers.shards import group_record, image_sample, write_dataset, write_embedded_shards, write_image_shards

SIZE = 3  # images in a group
PAIR = re.compile(r"the (first|second) is g(\d+)i(\d+), the (first|second) is g(\d+)i(\d+)")
CAPTION = re.compile(r"(picture|this is) g(\d+)i(\d+)")


def read_texts(texts: Sequence[str]) -> Tensor:
    """In place of a tokenizer: what a text says, as (group, first image, second image, second is named first)."""
    rows = []
    for text in texts:
        if match := PAIR.fullmatch(text):
            named = {match[1]: match[3], match[4]: match[6]}
            rows.append([int(match[2]), int(named["first"]), int(named["second"]), int(match[1] == "second")])
        else:
            caption = CAPTION.fullmatch(text)
            assert caption is not None, text
            rows.append([int(caption[2]), int(caption[3]), -1, int(caption[1] == "picture")])
    return torch.tensor(rows).reshape(-1, 4)


def read_colour(image: Image.Image) -> Tensor:
    """In place of preprocessing: one pixel, which tells which picture it is."""
    return pil_to_tensor(image.resize((1, 1)))


def one_hot(groups: int) -> np.ndarray:
    """Embeddings that tell which image of which group they are of."""
    return np.eye(groups * SIZE).reshape(groups, SIZE, groups * SIZE)


def write(folder: Path, sizes: Sequence[int]) -> Path:
    """Embedded shards of so many groups each."""
    return write_embedded_shards(folder, one_hot(sum(sizes)), "f", sizes=sizes)


def make(
    folder: Path | list[Path], rank: int = 0, world_size: int = 1, dataset: str | None = None, **draw: Any
) -> PairBatches:
    """A stream that draws two pairs and one caption from each of two groups, unless told otherwise."""
    settings = {"groups_per_batch": 2, "pairs_per_group": 2, "captions_per_group": 1, **draw}
    names = [str(one) for one in (folder if isinstance(folder, list) else [folder])]
    folders = [ShardFolder.open(name, Path(), dataset) for name in names]
    return PairBatches(folders, read_colour, read_texts, Draw(**settings), rank, world_size)  # type: ignore[arg-type]


def batches(stream: PairBatches, epoch: int = 0) -> list[PairBatch]:
    """All batches of an epoch."""
    return [stream[epoch, number] for number in range(len(stream))]


def groups_of(batch: PairBatch) -> list[int]:
    """The groups a batch is made of, in its order."""
    return list(dict.fromkeys(batch.tokens[:, 0].tolist()))


def check_truth(batch: PairBatch) -> None:
    """Each text and caption speaks of the images it stands beside."""
    assert batch.embeddings is not None
    which = batch.embeddings.argmax(1)
    assert torch.equal(which[batch.first], batch.tokens[:, 0] * SIZE + batch.tokens[:, 1])
    assert torch.equal(which[batch.second], batch.tokens[:, 0] * SIZE + batch.tokens[:, 2])
    assert torch.equal(which[batch.captioned], batch.caption_tokens[:, 0] * SIZE + batch.caption_tokens[:, 1])


def image_shards(folder: Path, records: Sequence[dict[str, Any]]) -> Path:
    """One shard of pictures with these records."""
    images, pairs = (sum(len(record[part]) for record in records) for part in ("images", "pairs"))
    size = max(len(record["images"]) for record in records)
    info = {"kind": "images", "group_size": size, "images": images, "pairs": pairs}
    return write_dataset(folder, [[image_sample(number, record) for number, record in enumerate(records)]], info)


DRAWS = st.fixed_dictionaries(
    {
        "groups_per_batch": st.integers(1, 2),
        "block": st.sampled_from([1, 3, 4, 100]),
        "pairs_per_group": st.sampled_from([0, 4, 8, 20]),  # a group has six
        "captions_per_group": st.integers(0, SIZE + 1),
        "both_directions": st.booleans(),
        "role_swap": st.sampled_from([0.0, 0.5, 1.0]),
        "role_twins": st.booleans(),
    }
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(1, 3), st.integers(0, 3), DRAWS)
def test_epoch_is_dealt_fairly_truly_and_the_same_every_time(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], world_size: int, epoch: int, draw: dict[str, Any]
) -> None:
    folder = write(tmp_path_factory.mktemp("deal") / "shards", sizes)
    per_batch, pairs = draw["groups_per_batch"], draw["pairs_per_group"]
    expected = sum(sizes) // (world_size * per_batch)
    if not expected:
        with pytest.raises(ValueError, match=r"data\.groups_per_batch"):
            make(folder, 0, world_size, **draw)
        return
    met: Counter[int] = Counter()
    for rank in range(world_size):
        stream = make(folder, rank, world_size, **draw)
        own = batches(stream, epoch)
        assert len(stream) == len(own) == expected
        again = make(folder, rank, world_size, **draw)
        assert same([again[epoch, number] for number in reversed(range(expected))], own[::-1])
        needed = [shard for number in range(expected) for shard, _ in stream._places(epoch, number)]
        assert list(stream.shards_of(epoch, 0)) == list(dict.fromkeys(needed))
        for batch in own:
            check_truth(batch)
            assert len(batch.first) == pairs * per_batch
            assert len(batch.captioned) == draw["captions_per_group"] * per_batch
            assert batch.embeddings is not None
            met.update((batch.embeddings.argmax(1)[::SIZE] // SIZE).tolist())
            check_bundles(batch, draw)
    assert set(met.values()) == {1}  # none twice
    assert len(met) == expected * per_batch * world_size  # and as many as fit


def check_bundles(batch: PairBatch, draw: dict[str, Any]) -> None:
    """Pairs come with their reverses and twins where they should."""
    reversed_at = (2 if draw["role_twins"] else 1) if draw["both_directions"] else 0
    if draw["role_twins"]:
        twin = torch.arange(len(batch.first)) ^ 1
        assert torch.equal(batch.first[twin], batch.second)
        assert torch.equal(batch.tokens[twin, 3], 1 - batch.tokens[:, 3])  # each text once in each order of mention
    if reversed_at:
        bundle = 2 * reversed_at
        assert torch.equal(batch.first[::bundle], batch.second[reversed_at::bundle])
        assert torch.equal(batch.tokens[::bundle, 3], batch.tokens[reversed_at::bundle, 3])


def test_few_of_many_shards_stay_open(tmp_path: Path) -> None:
    stream = make(write(tmp_path / "shards", [1] * 20), groups_per_batch=1)
    for epoch in range(2):
        assert {groups_of(batch)[0] for batch in batches(stream, epoch)} == set(range(20))
    assert len(stream._open) == 16
    again = pickle.loads(pickle.dumps(stream))  # as for a spawned worker
    assert same(batches(again), batches(stream))


def test_each_epoch_draws_other_groups_pairs_and_captions(tmp_path: Path) -> None:
    stream = make(write(tmp_path / "shards", [3, 4]), groups_per_batch=3, captions_per_group=2)
    pairs: Counter[tuple[int, ...]] = Counter()
    captions: Counter[tuple[int, ...]] = Counter()
    orders, left_over = set(), set()
    for epoch in range(60):
        own = batches(stream, epoch)
        groups = [g for batch in own for g in groups_of(batch)]
        orders.add(tuple(groups))
        left_over |= set(range(7)) - set(groups)
        for batch in own:
            drawn = [tuple(row) for row in batch.tokens.tolist()]
            assert len(set(drawn)) == len(drawn)  # none twice while there are enough
            pairs.update(drawn)
            captions.update(tuple(row) for row in batch.caption_tokens.tolist())
    assert len(pairs) == 7 * SIZE * (SIZE - 1)  # every ordered pair occurs
    assert len(captions) == 7 * SIZE * 2  # every caption of every image
    assert max(pairs.values()) < 4 * min(pairs.values())
    assert len(orders) > 10
    assert len(left_over) > 3  # what an epoch leaves over comes in another


@pytest.mark.parametrize(("probability", "low", "high"), [(0.0, 0, 0), (1.0, 1, 1), (0.5, 0.4, 0.6)])
def test_role_swap_has_its_probability_and_changes_nothing_else(
    tmp_path: Path, probability: float, low: float, high: float
) -> None:
    folder = write(tmp_path / "shards", [6])
    stream = make(folder, role_swap=probability, pairs_per_group=6)
    own = [batch for epoch in range(10) for batch in batches(stream, epoch)]
    assert low <= float(torch.cat([batch.tokens[:, 3] for batch in own]).float().mean()) <= high
    plain = batches(make(folder, pairs_per_group=6))
    assert all(torch.equal(a.caption_tokens, b.caption_tokens) for a, b in zip(plain, own, strict=False))


def test_role_swap_rises_from_epoch_to_epoch(tmp_path: Path) -> None:
    stream = make(write(tmp_path / "shards", [60]), role_swap=0.8, role_swap_epochs=4, pairs_per_group=6)
    shares = [
        float(torch.cat([batch.tokens[:, 3] for batch in batches(stream, epoch)]).float().mean()) for epoch in range(6)
    ]
    assert shares == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 0.8], abs=0.1)


def test_word_dropout_drops_its_share_of_words_and_changes_nothing_else(tmp_path: Path) -> None:
    folder = ShardFolder.open(str(write(tmp_path / "shards", [6])), Path())

    def drawn(epoch: int, probability: float) -> tuple[list[PairBatch], list[str]]:
        texts: list[str] = []

        def keep(batch: Sequence[str]) -> Tensor:
            texts.extend(batch)
            return torch.zeros(len(batch), 1)

        draw = Draw(2, 6, SIZE, word_dropout=probability)
        return batches(PairBatches([folder], read_colour, keep, draw), epoch), texts  # type: ignore[arg-type]

    (plain, whole), (own, dropped) = drawn(0, 0.0), drawn(0, 0.3)
    assert same(plain, own)  # the same pairs and captions
    assert drawn(0, 0.3)[1] == dropped
    assert drawn(1, 0.3)[1] != dropped
    kept = [(text.split(), part.split()) for text, part in zip(whole, dropped, strict=True)]
    for words, left in kept:
        there = iter(words)
        assert left  # a part of the text, in its order
        assert all(word in there for word in left)
        assert list(filter(MEANINGFUL.search, left)) == list(filter(MEANINGFUL.search, words))
    others = [sum(not MEANINGFUL.search(word) for words in side for word in words) for side in zip(*kept, strict=True)]
    assert 0.6 < others[1] / others[0] < 0.8


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The first is not small.", "first not"),
        ('"Second" isn\'t wet, the (first) can\u2019t swim.', '"Second" isn\'t (first) can\u2019t'),
        ("Neither nor: no-one, unlike the FIRST!", "Neither nor: no-one, unlike FIRST!"),
        ("Another notable thing", "Another notable thing"),  # none is kept, so all are
    ],
)
def test_word_dropout_keeps_roles_and_negations(text: str, expected: str) -> None:
    assert drop_words([text], 1.0, np.random.default_rng(0)) == [expected]


def test_pairs_without_reverse_or_roles(tmp_path: Path) -> None:
    record = group_record(0, SIZE)
    record["pairs"] = [{"first": 0, "second": 2, "text": "picture g0i0"}]
    folder = image_shards(tmp_path / "shards", [record])
    (batch,) = batches(make(folder, groups_per_batch=1, pairs_per_group=1, role_swap=1.0))
    assert (batch.first.item(), batch.second.item()) == (0, 2)
    (batch,) = batches(make(folder, groups_per_batch=1, pairs_per_group=2, role_twins=True))
    assert (batch.first.tolist(), batch.second.tolist()) == ([0, 0], [2, 2])
    with pytest.raises(ValueError, match="no usable group"):
        batches(make(folder, groups_per_batch=1, both_directions=True))


def test_groups_of_different_sizes_join_to_one_batch(tmp_path: Path) -> None:
    sizes = [2, 5, 3]
    folder = image_shards(tmp_path / "shards", [group_record(number, size) for number, size in enumerate(sizes)])
    (batch,) = batches(make(folder, groups_per_batch=3, pairs_per_group=4))
    assert batch.images is not None
    assert batch.embeddings is None
    assert batch.images.shape == (10, 3, 1, 1)
    offsets = dict(zip(groups_of(batch), np.cumsum([0, *(sizes[g] for g in groups_of(batch))]), strict=False))
    for place, (group, image) in zip(batch.first.tolist(), batch.tokens[:, :2].tolist(), strict=True):
        assert place == offsets[group] + image


def test_several_folders_make_one_stream(tmp_path: Path) -> None:
    folders = [
        write_image_shards(tmp_path / name, groups=4, group_size=SIZE, groups_per_shard=2) for name in ("a", "b")
    ]
    stream = make(folders)
    met = Counter(g for batch in batches(stream) for g in batch.tokens[:, 0].tolist())
    assert len(stream) == 4
    assert met == dict.fromkeys(range(4), 4)  # each group twice, with two pairs
    # an id names one picture in a dataset: in each folder, unless they are parts of one
    for dataset, expected in ((None, [1] * 24), ("parts", [2] * 12)):
        drawn = batches(make(folders, dataset=dataset))
        assert sorted(Counter(i for batch in drawn for i in batch.image_ids.tolist()).values()) == expected
    with pytest.raises(ValueError, match="images and of embeddings"):
        make([folders[0], write(tmp_path / "c", [4])])


@pytest.mark.parametrize("world_size", [1, 2])
def test_shares_hold_in_each_batch_and_each_group_has_its_turn(tmp_path: Path, world_size: int) -> None:
    sizes = {"a": 7, "b": 11, "c": 2}
    folders = [write_image_shards(tmp_path / name, count, SIZE, groups_per_shard=4) for name, count in sizes.items()]
    ids = {
        name: {int(key) for batch in batches(make(tmp_path / name, groups_per_batch=1)) for key in batch.image_ids}
        for name in sizes
    }
    members = {"ac": ids["a"] | ids["c"], "b": ids["b"]}
    shares = (((str(folders[0]), str(folders[2])), 1), ((str(folders[1]),), 2))
    drawn: dict[str, list[list[int]]] = {"ac": [], "b": []}  # images of all ranks, by step
    streams = [make(folders, rank, world_size, groups_per_batch=3, shares=shares) for rank in range(world_size)]
    assert len(streams[0]) == 20 // (3 * world_size)
    for epoch in range(6):
        own = [batches(stream, epoch) for stream in streams]
        again = make(folders, world_size - 1, world_size, groups_per_batch=3, shares=shares)
        assert same([again[epoch, number] for number in reversed(range(len(again)))], own[-1][::-1])
        assert list(again.shards_of(epoch, 0))
        for together in zip(*own, strict=True):
            for name, share in (("ac", 1), ("b", 2)):
                found = [[key for key in batch.image_ids.tolist() if key in members[name]] for batch in together]
                assert {len(keys) for keys in found} == {share * SIZE}
                drawn[name].append([key for keys in found for key in keys])
    for name, groups, share in (("ac", 9, 1), ("b", 11, 2)):
        length = groups // (share * world_size)  # steps until each group had its turn, whatever the epochs
        turns = [drawn[name][start : start + length] for start in range(0, len(drawn[name]) - length, length)]
        assert len(turns) > 2
        orders = [[key for step in turn for key in step] for turn in turns]
        assert all(len(set(order)) == len(order) for order in orders)
        assert len(set(map(tuple, orders))) == len(orders)
        assert set().union(*orders) == members[name]
    one = ((tuple(map(str, folders)), 3),)
    assert same(
        batches(make(folders, groups_per_batch=3, shares=one), 2), batches(make(folders, groups_per_batch=3), 2)
    )
    with pytest.raises(ValueError, match=r"c: 2 groups .* 3 .*data\.groups_per_batch"):
        make(folders, groups_per_batch=4, shares=(((str(folders[0]), str(folders[1])), 1), ((str(folders[2]),), 3)))


def test_substitutes_come_from_the_same_source(tmp_path: Path) -> None:
    damaged = damaged_folder(tmp_path / "damaged")
    whole = write_image_shards(tmp_path / "whole", groups=4, group_size=SIZE, groups_per_shard=2)
    shares = (((str(damaged),), 2), ((str(whole),), 1))
    usable = {int(key) for batch in batches(make(whole, groups_per_batch=1)) for key in batch.image_ids}
    stream = make([damaged, whole], groups_per_batch=3, shares=shares)
    for batch in [*batches(stream), *batches(stream, 1)]:
        assert sum(int(key) in usable for key in batch.image_ids) == SIZE
        assert len(batch.image_ids) == 3 * SIZE


def test_texts_are_trimmed_to_the_longest_of_the_batch(tiny_clip: DifferenceCLIP, shards: Path) -> None:
    folder = ShardFolder.open(str(shards), Path())
    (batch, *_) = batches(PairBatches([folder], tiny_clip.image_transform, tiny_clip.tokenizer, Draw(2, 3, 4)))
    assert batch.images is not None
    assert (batch.images.shape, batch.images.dtype) == ((8, 3, 32, 32), torch.uint8)
    for tokens in (batch.tokens, batch.caption_tokens):
        assert tokens.shape[1] < 77
        assert (tokens[:, -1] == tokens.max()).any()  # an end-of-text token in the last column
    assert batch.caption_tokens.shape[1] < batch.tokens.shape[1]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_loader_starts_anywhere_with_any_number_of_workers(tmp_path: Path, workers: int) -> None:
    stream = make(write(tmp_path / "shards", [9, 4]), role_swap=0.5, groups_per_batch=1)
    place = (0, 0)
    loader = EpochLoader(stream, lambda: place, DamageTally(0, 39), workers, persistent=True)
    assert len(loader) == 13
    for place in ((0, 0), (1, 0), (1, 5), (2, 12)):  # which the loader looks up
        assert same(list(loader), batches(stream, place[0])[place[1] :])
    loader.close()


def damaged_folder(folder: Path) -> Path:
    """Eight groups in two shards: 1 without record, 2 with a torn one, 4 and 5 with one bad picture, 6 without any."""
    samples = [image_sample(number, group_record(number, SIZE)) for number in range(8)]
    del samples[1]["json"]
    samples[2]["json"] = samples[2]["json"][:40]
    samples[4]["00.png"] = samples[4]["00.png"][:50]
    del samples[5]["02.png"]
    samples[6] = {key: value for key, value in samples[6].items() if not key.endswith("png")}
    samples[7]["00.pyd"] = samples[7]["pickle"] = b"never to be decoded"
    return write_dataset(
        folder, [samples[:4], samples[4:]], {"kind": "images", "group_size": SIZE, "images": 24, "pairs": 48}
    )


def reasons(own: Sequence[PairBatch]) -> Counter[str]:
    """How much was damaged in batches, by reason."""
    return Counter(damage.reason for batch in own for damage in batch.damaged)


def test_damage_is_skipped_and_counted_once(tmp_path: Path) -> None:
    stream = make(damaged_folder(tmp_path / "shards"), groups_per_batch=1, pairs_per_group=3)
    for epoch in range(3):
        own = batches(stream, epoch)
        assert len(own) == len(stream) == 8
        assert {len(batch.first) for batch in own} == {3}
        assert {g for batch in own for g in batch.tokens[:, 0].tolist()} == {0, 3, 4, 5, 7}
        for batch in own:
            named = {(g, i) for g, *images, _ in batch.tokens.tolist() for i in images}
            assert not {(4, 0), (5, 2)} & (named | {(g, i) for g, i in batch.caption_tokens[:, :2].tolist()})
        # groups 1, 2 and 6, and one image each of 4 and 5
        assert reasons(own) == {"missing_record": 1, "broken_record": 1, "missing_image": 2, "broken_image": 1}
        assert sum(damage.images for batch in own for damage in batch.damaged) == 3 * SIZE + 2
        assert same(own[3:], [stream[epoch, number] for number in range(3, 8)])


def test_substitutes_are_other_groups_while_there_are_any(tmp_path: Path) -> None:
    samples = [image_sample(number, group_record(number, SIZE)) for number in range(12)]
    for number in (2, 3, 4):
        samples[number]["json"] = b"{"
    info = {"kind": "images", "group_size": SIZE, "images": 36, "pairs": 72}
    stream = make(write_dataset(tmp_path / "shards", [samples[:6], samples[6:]], info), groups_per_batch=6)
    for epoch in range(5):
        for batch in batches(stream, epoch):
            assert len(groups_of(batch)) == 6


def test_epoch_with_too_much_damage_stops_with_the_list(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stream = make(damaged_folder(tmp_path / "shards"), groups_per_batch=1)  # 11 of 24 images are lost
    loader = EpochLoader(stream, lambda: (0, 0), DamageTally(0.4, 24), 0, persistent=False)
    with pytest.raises(ValueError, match=r"\b11\b.*\b24\b.*data\.max_damaged=0\.4") as caught:
        list(loader)
    for part in ("missing_record", "00000.tar: group 00000002", "broken_image"):
        assert part in str(caught.value)
    assert "broken_record" in caplog.text
    again = EpochLoader(stream, lambda: (0, 0), DamageTally(0.5, 24), 0, persistent=False)
    for epoch in (1, 2):
        assert len(list(again)) == 8
        assert sum(again.tally.epoch.values()) == 5
        assert sum(again.tally.total.values()) == 5 * epoch


def test_lost_shard_is_replaced_by_the_rest(tmp_path: Path) -> None:
    folder = write_image_shards(tmp_path / "shards", groups=4, group_size=SIZE, groups_per_shard=2)
    (folder / "00001.tar").write_bytes(b"\xff" * (folder / "00001.tar").stat().st_size)
    own = [batch for rank in range(2) for batch in batches(make(folder, rank, 2, groups_per_batch=1))]
    assert len(own) == 4
    assert {g for batch in own for g in groups_of(batch)} == {0, 1}
    assert reasons(own) == {"not_a_tar": 2}
    (folder / "00000.tar").write_bytes(b"")
    with pytest.raises(ValueError, match="no usable group"):
        batches(make(folder, groups_per_batch=1))
