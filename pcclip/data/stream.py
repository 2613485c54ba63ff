"""The training stream: group shards to batches of pairs, reproducible by (seed, epoch, rank, worker).

Each epoch lays all groups in one line: the shards in an order drawn from (seed, epoch), starting at a drawn place. Ranks
cut this line into equal parts, and each rank's workers cut theirs again, at batch boundaries. So every rank has the same
number of batches, no group is read twice, and few shards serve many workers, all without the ranks talking to each other.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import webdataset as wds
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from pcclip.batch import PairBatch
from pcclip.data.format import DamagedGroupError, DatasetInfo, PairRecord
from pcclip.data.groups import Group, ImageTransform, Sample, decode_group, read_samples, warn_of_missing
from pcclip.data.roles import has_roles, swap_roles
from pcclip.model.text import Tokenizer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Draw:
    """What is drawn from the groups.

    Attributes:
        groups_per_batch: Groups in a batch, on each rank.
        pairs_per_group: Ordered pairs drawn from each group, anew each epoch.
        both_directions: Whether each pair comes with its reverse, half as many unordered pairs being drawn.
        captions_per_group: Captioned images drawn from each group.
        role_swap: Probability that a pair is given as its reverse, with "first" and "second" exchanged in its text.
        role_twins: Give each drawn pair both ways instead, side by side in the batch; half as many are drawn.
        shuffle: Whether shards and groups are shuffled; without, epochs are alike, and pairs are drawn alike.
        buffer: Groups in the shuffle buffer of a worker, undecoded.
        seed: Seed of everything drawn.
    """

    groups_per_batch: int
    pairs_per_group: int
    captions_per_group: int
    both_directions: bool = False
    role_swap: float = 0.0
    role_twins: bool = False
    shuffle: bool = True
    buffer: int = 128
    seed: int = 0

    @property
    def needs(self) -> str:
        """What a group must have to be drawn from, for messages."""
        pairs = "pairs in both directions" if self.both_directions else "pairs"
        wanted = [pairs] * bool(self.pairs_per_group) + ["captions"] * bool(self.captions_per_group)
        return " and ".join(wanted)


@dataclass(frozen=True)
class Slice:
    """Groups `start` to `stop` of one shard."""

    shard: Path
    start: int
    stop: int


def cut(shards: Sequence[tuple[Path, int]], offset: int, start: int, stop: int) -> list[Slice]:
    """The pieces of shards that make up places `start` to `stop` of the line that begins `offset` groups in and wraps.

    Args:
        shards: Path and number of groups of each shard, in the order of the line.
        offset: Where the line begins.
        start: First place.
        stop: Place after the last; at most `start` plus the number of groups.
    """
    total = sum(groups for _, groups in shards)
    slices = []
    base = 0
    for lap in (0, total):
        base = lap
        for shard, groups in shards:
            low = max(base, start + offset)
            high = min(base + groups, stop + offset)
            if low < high:
                slices.append(Slice(shard, low - base, high - base))
            base += groups
    return slices


class PairStream(IterableDataset[PairBatch]):
    """Batches of pairs from one or more shard folders.

    Args:
        folders: Shard folders; all of images or all of embeddings.
        transform: PIL image to (3, H, W) uint8.
        tokenizer: Texts to token ids.
        draw: What is drawn.
        rank: This process.
        world_size: Number of processes.

    Raises:
        FileNotFoundError, ValueError: See `DatasetInfo.read`; also mixed kinds, and fewer groups than one batch needs.
    """

    def __init__(
        self,
        folders: Sequence[str | Path],
        transform: ImageTransform,
        tokenizer: Tokenizer,
        draw: Draw,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        infos = {Path(folder): DatasetInfo.read(folder) for folder in folders}
        if len({info.kind for info in infos.values()}) > 1:
            raise ValueError(f"shard folders of images and of embeddings cannot be mixed: {list(map(str, infos))}")
        self._shards = [(folder / s.name, s.groups) for folder, info in infos.items() for s in info.shards]
        self._groups = sum(groups for _, groups in self._shards)
        self._transform = transform
        self._tokenizer = tokenizer
        self._draw = draw
        self._rank = rank
        self.epoch = 0
        self._batches = self._groups // (world_size * draw.groups_per_batch)
        if self._batches == 0:
            raise ValueError(
                f"{', '.join(map(str, infos))}: {self._groups} groups are fewer than the {draw.groups_per_batch} of one batch "
                f"on each of {world_size} processes; lower data.groups_per_batch"
            )

    def __len__(self) -> int:
        """Batches per epoch, equal on every rank."""
        return self._batches

    def __iter__(self) -> Iterator[PairBatch]:
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        epoch = self.epoch if self._draw.shuffle else 0
        first, last = worker * self._batches // workers, (worker + 1) * self._batches // workers
        groups = self._endless_groups(
            epoch, first, last, random.Random(f"{self._draw.seed} {epoch} {self._rank} {worker}")
        )
        rng = np.random.default_rng([self._draw.seed, epoch, self._rank, worker])
        self._damaged = 0
        for _ in range(first, last):
            batch = collate(list(islice(groups, self._draw.groups_per_batch)), self._draw, self._tokenizer, rng)
            yield batch._replace(damaged=torch.tensor(self._damaged))
            self._damaged = 0

    def _slices(self, epoch: int, first: int, last: int) -> list[Slice]:
        """The pieces that hold batches `first` to `last` of this rank's epoch."""
        order, offset = list(range(len(self._shards))), 0
        if self._draw.shuffle:
            # Drawn alike on every rank and worker, so that their parts do not overlap.
            shared = np.random.default_rng([self._draw.seed, epoch])
            order, offset = shared.permutation(len(self._shards)).tolist(), int(shared.integers(self._groups))
        size = self._draw.groups_per_batch
        begin = self._rank * self._batches * size
        return cut([self._shards[i] for i in order], offset, begin + first * size, begin + last * size)

    def _endless_groups(self, epoch: int, first: int, last: int, rng: random.Random) -> Iterator[Group]:
        """The worker's groups; where some are damaged, its part is read again until the batches are full.

        A part without any usable group is replaced by the whole: one bad shard does not end a run.
        """
        slices = self._slices(epoch, first, last)
        whole = [Slice(shard, 0, groups) for shard, groups in self._shards]
        while True:
            found = 0
            for sample in self._samples(slices, rng):
                group = self._decode(sample)
                if group is not None:
                    found += 1
                    yield group
            if not found and slices == whole:
                raise ValueError(
                    f"no usable group in {', '.join(str(piece.shard) for piece in slices)}: training needs groups with "
                    f"{self._draw.needs}; see the warnings above"
                )
            if not found:
                slices = whole

    def _samples(self, slices: list[Slice], rng: random.Random) -> Iterator[Sample]:
        samples = self._undecoded(slices)
        if not self._draw.shuffle:
            return samples
        shuffled: Iterator[Sample] = wds.filters._shuffle(samples, self._draw.buffer, self._draw.buffer, rng=rng)
        return shuffled

    def _undecoded(self, slices: list[Slice]) -> Iterator[Sample]:
        for piece in slices:
            missing = piece.stop - piece.start
            for sample in islice(read_samples([piece.shard]), piece.start, piece.stop):
                missing -= 1
                yield sample
            warn_of_missing(piece.shard, missing)
            self._damaged += missing

    def _decode(self, sample: Sample) -> Group | None:
        try:
            group = decode_group(sample, self._transform)
        except DamagedGroupError as error:
            logger.warning("%s; group skipped", error)
            self._damaged += 1
            return None
        self._damaged += int((~group.intact).sum())
        has_captions = any(captions for captions, ok in zip(group.captions, group.intact, strict=True) if ok)
        pairs = both_ways(group.pairs) if self._draw.both_directions else group.pairs
        usable = (pairs or not self._draw.pairs_per_group) and (has_captions or not self._draw.captions_per_group)
        return group if usable else None


def collate(groups: Sequence[Group], draw: Draw, tokenizer: Tokenizer, rng: np.random.Generator) -> PairBatch:
    """Draw pairs and captions from groups and join them to one batch."""
    first: list[int] = []
    second: list[int] = []
    texts: list[str] = []
    twin: list[int] = []
    captioned, captions = [], []
    offset = 0
    for group in groups:
        pairs, twins = _drawn_pairs(group.pairs, draw, rng)
        twin += [len(first) + place for place in twins]
        first += [offset + pair["first"] for pair in pairs]
        second += [offset + pair["second"] for pair in pairs]
        texts += [pair["text"] for pair in pairs]
        with_captions = [i for i, own in enumerate(group.captions) if own and group.intact[i]]
        for index in _indices(len(with_captions), draw.captions_per_group, rng):
            image = with_captions[index]
            captioned.append(offset + image)
            captions.append(group.captions[image][rng.integers(len(group.captions[image]))])
        offset += len(group.ids)
    return PairBatch(
        images=_joined([group.images for group in groups]),
        embeddings=_joined([group.embeddings for group in groups]),
        image_ids=torch.tensor([_hashed(name) for group in groups for name in group.ids], dtype=torch.long),
        first=torch.tensor(first, dtype=torch.long),
        second=torch.tensor(second, dtype=torch.long),
        tokens=tokenizer(texts),
        twin=torch.tensor(twin, dtype=torch.long),
        captioned=torch.tensor(captioned, dtype=torch.long),
        caption_tokens=tokenizer(captions),
        damaged=torch.tensor(0),
    )


def both_ways(pairs: Sequence[PairRecord]) -> list[tuple[PairRecord, PairRecord]]:
    """Each pair that is given in both directions, with its reverse."""
    waiting: defaultdict[tuple[int, int], deque[PairRecord]] = defaultdict(deque)
    couples = []
    for pair in pairs:
        if reverses := waiting[pair["second"], pair["first"]]:
            couples.append((reverses.popleft(), pair))
        else:
            waiting[pair["first"], pair["second"]].append(pair)
    return couples


def _drawn_pairs(
    pairs: Sequence[PairRecord], draw: Draw, rng: np.random.Generator
) -> tuple[list[PairRecord], list[int]]:
    """`pairs_per_group` of a group's pairs, and the place of each one's twin among them.

    Pairs are drawn in bundles: a pair alone or with its reverse, each alone or with its twin.
    """
    if not draw.pairs_per_group:
        return [], []
    bundles: Sequence[tuple[PairRecord, ...]] = (
        both_ways(pairs) if draw.both_directions else [(pair,) for pair in pairs]
    )
    twins = draw.role_twins
    if twins:
        told_apart = [bundle for bundle in bundles if _have_roles(bundle)]
        bundles, twins = told_apart or bundles, bool(told_apart)
    drawn: list[PairRecord] = []
    for index in _indices(len(bundles), draw.pairs_per_group // (len(bundles[0]) * (2 if twins else 1)), rng):
        bundle = bundles[index]
        if twins:
            drawn += [way for pair in bundle for way in (pair, _exchanged(pair))]
        else:
            # All or none, so that a pair and its reverse stay each other's. The number is drawn in any case, so that texts
            # without roles do not shift what is drawn after them.
            swapped = rng.random() < draw.role_swap and _have_roles(bundle)
            drawn += map(_exchanged, bundle) if swapped else bundle
    return drawn, [place ^ 1 if twins else place for place in range(len(drawn))]


def _hashed(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little", signed=True)


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None


def _indices(available: int, wanted: int, rng: np.random.Generator) -> list[int]:
    """`wanted` of `available` indices; all of them and repeats where there are too few, for batches of one size."""
    if wanted <= available:
        return [int(i) for i in rng.permutation(available)[:wanted]]
    return [*range(available), *(int(i) for i in rng.integers(available, size=wanted - available))]


def _have_roles(pairs: Sequence[PairRecord]) -> bool:
    return all(has_roles(pair["text"]) for pair in pairs)


def _exchanged(pair: PairRecord) -> PairRecord:
    return {"first": pair["second"], "second": pair["first"], "text": swap_roles(pair["text"])}
