"""The batches: true pairs, reproducible draws, and a fair and complete deal to ranks, whatever is damaged."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from pcclip.batch import PairBatch
from pcclip.data.collate import Draw
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


LAYOUTS = [[1], [12], [7], [3, 1, 4], [1, 1, 1, 1, 1], [13, 2]]


@pytest.mark.parametrize("sizes", LAYOUTS, ids=str)
def test_ranks_share_the_groups_fairly(tmp_path: Path, sizes: list[int]) -> None:
    folder = write(tmp_path / "shards", sizes)
    total = sum(sizes)
    for world_size, block, per_batch in itertools.product((1, 2, 3), (1, 3, 4, 100), (1, 2)):
        if total < world_size * per_batch:
            with pytest.raises(ValueError, match=r"shards: \d+ groups are fewer than .* lower data.groups_per_batch"):
                make(folder, 0, world_size, groups_per_batch=per_batch)
            continue
        expected = total // (world_size * per_batch)
        met: Counter[int] = Counter()
        for rank in range(world_size):
            stream = make(folder, rank, world_size, groups_per_batch=per_batch, block=block)
            own = batches(stream, epoch=1)
            assert len(stream) == len(own) == expected
            for batch in own:
                check_truth(batch)
                assert len(batch.first) == 2 * per_batch
                assert len(batch.captioned) == per_batch
                met.update(groups_of(batch))
        assert set(met.values()) == {1}  # none twice
        assert len(met) == expected * per_batch * world_size  # and as many as fit


def test_what_an_epoch_leaves_over_comes_in_another(tmp_path: Path) -> None:
    stream = make(write(tmp_path / "shards", [3, 4]), groups_per_batch=3)
    epochs = [{g for batch in batches(stream, epoch) for g in groups_of(batch)} for epoch in range(12)]
    assert all(len(epoch) == 6 for epoch in epochs)
    assert len({frozenset(range(7)) - epoch for epoch in epochs}) > 3


def test_draws_depend_on_seed_epoch_rank_and_number_alone(tmp_path: Path) -> None:
    folder = write(tmp_path / "shards", [5, 7])

    def draw(epoch: int = 0, **settings: Any) -> list[PairBatch]:
        return batches(make(folder, world_size=2, **settings), epoch)

    assert same(draw(), draw())
    assert same(draw(epoch=3, rank=1, role_swap=0.5), draw(epoch=3, rank=1, role_swap=0.5))
    for other in ({"epoch": 1}, {"seed": 1}, {"rank": 1}):
        assert not same(draw(), draw(**other))
    # A batch does not depend on those before it.
    whole = draw(epoch=2)
    stream = make(folder, world_size=2)
    batches(stream, 1)
    for number in (2, 0, 1):
        assert same([stream[2, number]], [whole[number]])


def test_each_epoch_draws_other_pairs_in_both_directions(tmp_path: Path) -> None:
    stream = make(write(tmp_path / "shards", [4]), pairs_per_group=2, captions_per_group=2)
    pairs: Counter[tuple[int, ...]] = Counter()
    captions: Counter[tuple[int, ...]] = Counter()
    orders = set()
    for epoch in range(60):
        own = batches(stream, epoch)
        orders.add(tuple(g for batch in own for g in groups_of(batch)))
        for batch in own:
            drawn = [tuple(row) for row in batch.tokens.tolist()]
            assert len(set(drawn)) == len(drawn)  # none twice while there are enough
            pairs.update(drawn)
            captions.update(tuple(row) for row in batch.caption_tokens.tolist())
    assert len(pairs) == 4 * SIZE * (SIZE - 1)  # every ordered pair occurs
    assert len(captions) == 4 * SIZE * 2  # every caption of every image
    assert max(pairs.values()) < 3 * min(pairs.values())
    assert len(orders) > 10


@pytest.mark.parametrize(("probability", "low", "high"), [(0.0, 0, 0), (1.0, 1, 1), (0.5, 0.4, 0.6)])
def test_role_swap_keeps_the_texts_true(tmp_path: Path, probability: float, low: float, high: float) -> None:
    stream = make(write(tmp_path / "shards", [6]), role_swap=probability, pairs_per_group=6)
    own = [batch for epoch in range(10) for batch in batches(stream, epoch)]
    for batch in own:
        check_truth(batch)
    swapped = torch.cat([batch.tokens[:, 3] for batch in own]).float().mean()
    assert low <= float(swapped) <= high
    # The swap changes what is drawn in nothing else.
    plain = batches(make(write(tmp_path / "again", [6]), pairs_per_group=6))
    assert all(torch.equal(a.caption_tokens, b.caption_tokens) for a, b in zip(plain, own, strict=False))


@pytest.mark.parametrize("role_swap", [0.0, 0.5])
def test_both_directions_draws_pairs_with_their_reverses(tmp_path: Path, role_swap: float) -> None:
    folder = write(tmp_path / "shards", [6])
    met = set()
    for epoch in range(20):
        for batch in batches(make(folder, pairs_per_group=4, both_directions=True, role_swap=role_swap), epoch):
            check_truth(batch)
            drawn = list(zip(batch.first.tolist(), batch.second.tolist(), strict=True))
            assert len(set(drawn)) == 8  # four pairs of each of two groups, none twice
            assert {(second, first) for first, second in drawn} == set(drawn)
            met |= {tuple(row) for row in batch.tokens[:, :3].tolist()}
    assert len(met) == 6 * SIZE * (SIZE - 1)


def test_group_without_reversed_pairs_is_passed_over_where_both_directions_are_wanted(tmp_path: Path) -> None:
    record = group_record(0, SIZE)
    record["pairs"] = [pair for pair in record["pairs"] if pair["first"] < pair["second"]]
    info = {"kind": "images", "group_size": SIZE, "images": SIZE, "pairs": 3}
    folder = write_dataset(tmp_path / "shards", [[image_sample(0, record)]], info)
    stream = make(folder, groups_per_batch=1, both_directions=True)
    with pytest.raises(ValueError, match="training needs groups with pairs in both directions"):
        batches(stream)


@pytest.mark.parametrize("both_directions", [False, True])
def test_twins_stand_side_by_side_and_both_are_true(tmp_path: Path, both_directions: bool) -> None:
    folder = write(tmp_path / "shards", [6])
    for batch in batches(make(folder, both_directions=both_directions, role_twins=True, pairs_per_group=8)):
        check_truth(batch)
        twin = torch.arange(16) ^ 1
        if both_directions:  # bundles of a pair, its twin, its reverse and the reverse's twin
            assert torch.equal(batch.first[::4], batch.second[2::4])
            assert torch.equal(batch.first[::4], batch.first[3::4])
        assert torch.equal(batch.first[twin], batch.second)
        assert torch.equal(batch.tokens[twin][:, [2, 1]], batch.tokens[:, [1, 2]])
        assert torch.equal(batch.tokens[twin, 3], 1 - batch.tokens[:, 3])  # each text once in each order of mention


def test_text_without_roles_is_left_alone(tmp_path: Path) -> None:
    record = group_record(0, SIZE)
    record["pairs"] = [{"first": 0, "second": 2, "text": "picture g0i0"}]
    folder = write_dataset(
        tmp_path / "shards",
        [[image_sample(0, record)]],
        {"kind": "images", "group_size": SIZE, "images": SIZE, "pairs": 1},
    )
    (batch,) = batches(make(folder, groups_per_batch=1, pairs_per_group=1, role_swap=1.0))
    assert (batch.first.item(), batch.second.item()) == (0, 2)
    (batch,) = batches(make(folder, groups_per_batch=1, pairs_per_group=2, role_twins=True))
    assert (batch.first.tolist(), batch.second.tolist()) == ([0, 0], [2, 2])


def test_few_pairs_and_captions_are_repeated_to_full_batches(tmp_path: Path) -> None:
    stream = make(write(tmp_path / "shards", [2]), pairs_per_group=20, captions_per_group=7)
    (batch,) = batches(stream)
    check_truth(batch)
    assert (len(batch.first), len(batch.captioned)) == (40, 14)
    assert len({tuple(row) for row in batch.tokens.tolist()}) == 12  # every pair at least once


def test_groups_of_different_sizes_join_to_one_batch(tmp_path: Path) -> None:
    sizes = [2, 5, 3]
    samples = [image_sample(number, group_record(number, size)) for number, size in enumerate(sizes)]
    folder = write_dataset(
        tmp_path / "shards", [samples], {"kind": "images", "group_size": 5, "images": 10, "pairs": 28}
    )
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
    with pytest.raises(ValueError, match="images and of embeddings cannot be mixed"):
        make([folders[0], write(tmp_path / "c", [4])])


def test_texts_are_trimmed_to_the_longest_of_the_batch(tiny_clip: DifferenceCLIP, shards: Path) -> None:
    folder = ShardFolder.open(str(shards), Path())
    stream = PairBatches([folder], tiny_clip.image_transform, tiny_clip.tokenizer, Draw(2, 3, 4))
    for batch in batches(stream):
        assert batch.images is not None
        assert batch.images.shape == (8, 3, 32, 32)
        assert batch.images.dtype == torch.uint8
        for tokens in (batch.tokens, batch.caption_tokens):
            assert tokens.shape[1] < 77
            assert (tokens[:, -1] == tokens.max()).any()  # an end-of-text token in the last column
        assert batch.caption_tokens.shape[1] < batch.tokens.shape[1]


def test_a_loss_that_is_not_used_draws_nothing(tmp_path: Path) -> None:
    folder = write(tmp_path / "shards", [4])
    for draw, pairs, captions in (({"pairs_per_group": 0}, 0, 2), ({"captions_per_group": 0}, 4, 0)):
        for batch in batches(make(folder, **draw)):
            assert (len(batch.first), len(batch.tokens), len(batch.captioned)) == (pairs, pairs, captions)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_loader_begins_anywhere_with_any_number_of_workers(tmp_path: Path, workers: int) -> None:
    stream = make(write(tmp_path / "shards", [9, 4]), role_swap=0.5, groups_per_batch=1)
    place = (0, 0)
    loader = EpochLoader(stream, lambda: place, DamageTally(0, 39), workers, persistent=True)
    assert len(loader) == 13
    for place in ((0, 0), (1, 0), (1, 5), (2, 12)):  # which the loader looks up
        assert same(list(loader), batches(stream, place[0])[place[1] :])
    loader.close()


def test_shards_are_named_in_the_order_of_need(tmp_path: Path) -> None:
    for world_size, rank in ((1, 0), (2, 0), (2, 1)):
        stream = make(
            write(tmp_path / f"{world_size}{rank}", [3, 1, 4, 2]), rank, world_size, block=1, groups_per_batch=1
        )
        for number in range(len(stream)):
            met = [stream._places(1, later)[0][0] for later in range(number, len(stream))]
            met = [shard for at, shard in enumerate(met) if at == 0 or shard != met[at - 1]]
            assert list(stream.shards_of(1, number)) == met


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


def test_damage_is_passed_over_and_counted_once(tmp_path: Path) -> None:
    stream = make(damaged_folder(tmp_path / "shards"), groups_per_batch=1, pairs_per_group=3)
    for epoch in range(3):
        own = batches(stream, epoch)
        assert len(own) == len(stream) == 8
        assert {len(batch.first) for batch in own} == {3}
        met = Counter(g for batch in own for g in batch.tokens[:, 0].tolist())
        assert set(met) == {0, 3, 4, 5, 7}
        for batch in own:
            named = {tuple(row) for row in batch.tokens.tolist()}
            assert not any(group == 4 and 0 in (first, second) for group, first, second, _ in named)
            assert not any(group == 5 and 2 in (first, second) for group, first, second, _ in named)
            assert not {(4, 0), (5, 2)} & {(g, i) for g, i in batch.caption_tokens[:, :2].tolist()}
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
    with pytest.raises(ValueError, match=r"11 images are lost of the 24 .*data.max_damaged=0.4") as caught:
        list(loader)
    for line in ("missing_record (a group without its .json): 1", "00000.tar: group 00000002", "broken_image"):
        assert line in str(caught.value)
    assert "left out, broken_record: " in caplog.text
    again = EpochLoader(stream, lambda: (0, 0), DamageTally(0.5, 24), 0, persistent=False)
    for epoch in (1, 2):
        assert len(list(again)) == 8
        assert sum(again.tally.epoch.values()) == 5
        assert sum(again.tally.total.values()) == 5 * epoch


def test_groups_behind_damage_in_a_shard_are_read(tmp_path: Path) -> None:
    folder = write_image_shards(tmp_path / "shards", groups=6, group_size=SIZE, groups_per_shard=3)
    shard = folder / "00000.tar"
    content = shard.read_bytes()
    header = content.index(b"00000001.00.png")
    shard.write_bytes(content[:header] + b"\xff" * 512 + content[header + 512 :])
    own = batches(make(folder, groups_per_batch=1))
    assert sorted(groups_of(batch) for batch in own) == [[0], [1], [2], [3], [4], [5]]
    assert reasons(own) == {"missing_image": 1}


def test_lost_shard_is_replaced_by_the_rest(tmp_path: Path) -> None:
    folder = write_image_shards(tmp_path / "shards", groups=4, group_size=SIZE, groups_per_shard=2)
    size = (folder / "00001.tar").stat().st_size
    (folder / "00001.tar").write_bytes(b"\xff" * size)
    own = [batch for rank in range(2) for batch in batches(make(folder, rank, 2, groups_per_batch=1))]
    assert len(own) == 4
    assert {g for batch in own for g in groups_of(batch)} == {0, 1}
    assert reasons(own) == {"not_a_tar": 2}


def test_only_damage_ends_with_a_message(tmp_path: Path) -> None:
    samples = [{"__key__": b"00000000", "json": b"{"}]
    folder = write_dataset(
        tmp_path / "shards", [samples], {"kind": "images", "group_size": SIZE, "images": 3, "pairs": 6}
    )
    with pytest.raises(
        ValueError, match=r"no usable group in any shard: training needs groups with pairs and captions"
    ):
        batches(make(folder, groups_per_batch=1))


def test_group_made_wrongly_is_left_out_with_what_is_wrong(tmp_path: Path) -> None:
    records = [group_record(number, SIZE) for number in range(2)]
    records[0]["pairs"][1]["second"] = SIZE
    info = {"kind": "images", "group_size": SIZE, "images": 6, "pairs": 12}
    folder = write_dataset(tmp_path / "shards", [[image_sample(n, record) for n, record in enumerate(records)]], info)
    own = batches(make(folder, groups_per_batch=1))
    ((reason, where, images),) = [damage for batch in own for damage in batch.damaged]
    assert (reason, images) == ("wrong_record", SIZE)
    assert "00000.tar: group 00000000: pair 1 points to images 0 and 3" in where
