"""The stream: true pairs, reproducible draws, and a fair and complete deal to ranks and workers, whatever is damaged."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms.functional import pil_to_tensor

from pcclip.batch import PairBatch
from pcclip.data import stream as stream_module
from pcclip.data.stream import Draw, PairStream
from pcclip.model import DifferenceModel
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


def make(folder: Path | list[Path], rank: int = 0, world_size: int = 1, **draw: Any) -> PairStream:
    """A stream that draws two pairs and one caption from each of two groups, unless told otherwise."""
    settings = {"groups_per_batch": 2, "pairs_per_group": 2, "captions_per_group": 1, **draw}
    folders = folder if isinstance(folder, list) else [folder]
    return PairStream(folders, read_colour, read_texts, Draw(**settings), rank, world_size)  # type: ignore[arg-type]


def batches(stream: PairStream, epoch: int = 0, workers: int = 0) -> list[PairBatch]:
    """An epoch as the workers of a loader yield it, in the order a loader takes it from them."""
    stream.epoch = epoch
    if workers == 0:
        return list(stream)
    parts: list[Iterator[PairBatch]] = []
    with pytest.MonkeyPatch.context() as patch:
        for worker in range(workers):
            info = SimpleNamespace(id=worker, num_workers=workers)
            patch.setattr(stream_module, "get_worker_info", lambda info=info: info)
            parts.append(iter(list(stream)))
    return [b for turn in itertools.zip_longest(*parts) for b in turn if b is not None]


def same(left: Sequence[PairBatch], right: Sequence[PairBatch]) -> bool:
    """Whether two runs of batches are equal in everything."""
    return len(left) == len(right) and all(
        (a is None and b is None) or torch.equal(a, b)
        for one, two in zip(left, right, strict=True)
        for a, b in zip(one, two, strict=True)
    )


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
@pytest.mark.parametrize("shuffle", [True, False], ids=["shuffled", "in_order"])
def test_ranks_and_workers_share_the_groups_fairly(tmp_path: Path, sizes: list[int], shuffle: bool) -> None:
    folder = write(tmp_path / "shards", sizes)
    total = sum(sizes)
    for world_size, workers, per_batch in itertools.product((1, 2, 3), (0, 1, 3, 4), (1, 2)):
        if total < world_size * per_batch:
            with pytest.raises(ValueError, match=r"shards: \d+ groups are fewer than .* lower data.groups_per_batch"):
                make(folder, 0, world_size, groups_per_batch=per_batch)
            continue
        expected = total // (world_size * per_batch)
        met: Counter[int] = Counter()
        for rank in range(world_size):
            stream = make(folder, rank, world_size, groups_per_batch=per_batch, shuffle=shuffle, buffer=3)
            own = batches(stream, epoch=1, workers=workers)
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


@pytest.mark.parametrize("workers", [0, 2])
def test_draws_depend_on_seed_epoch_rank_and_worker_alone(tmp_path: Path, workers: int) -> None:
    folder = write(tmp_path / "shards", [5, 7])

    def draw(epoch: int = 0, **settings: Any) -> list[PairBatch]:
        return batches(make(folder, world_size=2, **settings), epoch, workers)

    assert same(draw(), draw())
    assert same(draw(epoch=3, rank=1, role_swap=0.5), draw(epoch=3, rank=1, role_swap=0.5))
    for other in ({"epoch": 1}, {"seed": 1}, {"rank": 1}):
        assert not same(draw(), draw(**other))
    # An epoch does not depend on those before it.
    stream = make(folder, world_size=2)
    for epoch in range(3):
        later = batches(stream, epoch, workers)
    assert same(later, draw(epoch=2))


def test_held_out_batches_are_alike_in_every_epoch(tmp_path: Path) -> None:
    stream = make(write(tmp_path / "shards", [5, 7]), shuffle=False)
    first = batches(stream, 0)
    assert same(first, batches(stream, 5))
    assert [g for batch in first for g in groups_of(batch)] == list(range(12))


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
        twin = batch.twin
        assert torch.equal(twin[twin], torch.arange(16))
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
    assert (batch.first.tolist(), batch.twin.tolist()) == ([0, 0], [0, 1])  # its own twin: it has none


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
    ids = Counter(i for batch in batches(stream) for i in batch.image_ids.tolist())
    assert sorted(ids.values()) == [2] * 12  # a picture's id is the same wherever it stands
    with pytest.raises(ValueError, match="images and of embeddings cannot be mixed"):
        make([folders[0], write(tmp_path / "c", [4])])


def test_texts_are_trimmed_to_the_longest_of_the_batch(tiny_clip: DifferenceModel, shards: Path) -> None:
    stream = PairStream([shards], tiny_clip.image_transform, tiny_clip.tokenizer, Draw(2, 3, 4))
    for batch in stream:
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
def test_a_real_loader_yields_what_the_workers_make(tmp_path: Path, workers: int) -> None:
    stream = make(write(tmp_path / "shards", [9, 4]), role_swap=0.5, groups_per_batch=1)
    loader = DataLoader(stream, batch_size=None, num_workers=workers)
    assert len(loader) == 13
    for epoch in range(2):
        stream.epoch = epoch
        assert same(list(loader), batches(stream, epoch, workers))


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


@pytest.mark.parametrize("workers", [0, 2])
def test_damage_is_passed_over_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture, workers: int) -> None:
    stream = make(damaged_folder(tmp_path / "shards"), groups_per_batch=1, pairs_per_group=3, shuffle=False)
    own = batches(stream, workers=workers)
    assert len(own) == len(stream) == 8
    assert {len(batch.first) for batch in own} == {3}
    met = Counter(g for batch in own for g in batch.tokens[:, 0].tolist())
    assert set(met) == {0, 3, 4, 5, 7}
    for batch in own:
        named = {tuple(row) for row in batch.tokens.tolist()}
        assert not any(group == 4 and 0 in (first, second) for group, first, second, _ in named)
        assert not any(group == 5 and 2 in (first, second) for group, first, second, _ in named)
        assert not {(4, 0), (5, 2)} & {(g, i) for g, i in batch.caption_tokens[:, :2].tolist()}
    # groups 1, 2 and 6 and one image each of 4 and 5 on the first way through; the rest where groups are met again
    assert sum(int(batch.damaged) for batch in own) >= 5
    for number in (1, 2, 6):
        assert f"group {number:08d}" in caplog.text


def test_groups_behind_damage_in_a_shard_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_image_shards(tmp_path / "shards", groups=6, group_size=SIZE, groups_per_shard=3)
    shard = folder / "00000.tar"
    content = shard.read_bytes()
    record = content.index(json.dumps(group_record(1, SIZE)).encode()[:60])
    # The third group's first header: a tar reader takes this for the end.
    header = content.index(b"00000002.00.png")
    assert header > record
    shard.write_bytes(content[:header] + b"\0" * (len(content) - header))
    own = batches(make(folder, groups_per_batch=1, shuffle=False))
    assert [groups_of(batch) for batch in own] == [[0], [1], [3], [4], [5], [0]]
    assert sum(int(batch.damaged) for batch in own) == 1
    assert "00000.tar: 1 of its groups cannot be reached" in caplog.text


def test_worker_with_nothing_but_damage_takes_part_in_the_rest(tmp_path: Path) -> None:
    folder = write_image_shards(tmp_path / "shards", groups=4, group_size=SIZE, groups_per_shard=2)
    size = (folder / "00001.tar").stat().st_size
    (folder / "00001.tar").write_bytes(b"\xff" * size)
    for rank in range(2):
        own = batches(make(folder, rank, 2, groups_per_batch=1, shuffle=False), workers=2)
        assert [groups_of(batch) for batch in own] == ([[0], [1]] if rank == 0 else [[0], [0]])
        assert sum(int(batch.damaged) for batch in own) == (0 if rank == 0 else 2)


def test_only_damage_ends_with_a_message(tmp_path: Path) -> None:
    samples = [{"__key__": b"00000000", "json": b"{"}]
    folder = write_dataset(
        tmp_path / "shards", [samples], {"kind": "images", "group_size": SIZE, "images": 3, "pairs": 6}
    )
    with pytest.raises(ValueError, match=r"no usable group in .*00000.tar: training needs groups with pairs"):
        batches(make(folder, groups_per_batch=1))


def test_group_made_wrongly_ends_with_a_message(tmp_path: Path) -> None:
    record = group_record(0, SIZE)
    record["pairs"][1]["second"] = SIZE
    info = {"kind": "images", "group_size": SIZE, "images": 3, "pairs": 6}
    folder = write_dataset(tmp_path / "shards", [[image_sample(0, record)]], info)
    with pytest.raises(ValueError, match=r"00000.tar: group 00000000: pair 1 points to images 0 and 3"):
        batches(make(folder, groups_per_batch=1))
