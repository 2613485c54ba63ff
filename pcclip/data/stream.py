"""Batches of training pairs. Seed, epoch and batch number determine each batch.

`pcclip.data.group_order` says which groups are in it. All ranks have the same number of batches. A shard's index gives the
position of each group, so any worker can make any batch without making the earlier ones.

With `data.train_weights`, each batch has a fixed number of groups from each entry. Each entry then has its own order, which
continues across epochs.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from pcclip.batch import PairBatch
from pcclip.data.collate import Draw, collate
from pcclip.data.damage import Damage, DamagedGroupError
from pcclip.data.folders import ShardFolder
from pcclip.data.group_order import PAIRS, SUBSTITUTES, GroupOrder
from pcclip.data.groups import MAX_PIXELS, Group, ImageTransform, Sample, decode_group, read_sample
from pcclip.data.record import GroupRecord, PairRecord, both_ways
from pcclip.data.tar_index import TarIndex
from pcclip.model.text import Tokenizer

KEPT = 16  # open shards; their indices use a few megabytes


class GroupStream(Dataset[PairBatch], ABC):
    """Dataset of batches of pairs from one or more shard folders. `stream[epoch, number]` is one batch of this rank.

    Args:
        folders: Shard folders, all with images or all with embeddings.
        transform: PIL image to (3, H, W) uint8.
        tokenizer: Texts to token ids.
        draw: Settings of what is drawn from the groups.
        rank: Rank of this process.
        world_size: Number of processes.
        max_pixels: Images with more pixels are not decoded.

    Raises:
        ValueError: Some folders have images and some have embeddings.
    """

    def __init__(
        self,
        folders: Sequence[ShardFolder],
        transform: ImageTransform,
        tokenizer: Tokenizer,
        draw: Draw,
        rank: int = 0,
        world_size: int = 1,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        names = [folder.name for folder in folders]
        if len({folder.info.kind for folder in folders}) > 1:
            raise ValueError(f"shard folders of images and of embeddings cannot be mixed: {names}")
        self._shards = [(folder, shard) for folder in folders for shard in folder.info.shards]
        self._sizes = np.array([shard.groups for _, shard in self._shards])
        self._groups = int(self._sizes.sum())
        self._group_size = max(folder.info.group_size for folder in folders)
        self._transform = None if folders[0].info.kind == "embeddings" else transform
        self._tokenizer = tokenizer
        self._draw = draw
        self._rank = rank
        self._world_size = world_size
        self._max_pixels = max_pixels
        self._open: dict[int, TarIndex] = {}  # least recently used first
        self._batches = self._count()

    def __len__(self) -> int:
        """Return the batches per epoch, equal on all ranks."""
        return self._batches

    @abstractmethod
    def _count(self) -> int:
        """Return the batches per epoch, equal on all ranks."""

    @abstractmethod
    def __getitem__(self, place: tuple[int, int]) -> PairBatch:
        """Return a batch by (epoch, number)."""

    @abstractmethod
    def _places(self, epoch: int, number: int) -> list[tuple[int, int]]:
        """Return (shard, place in the shard) of each group of a batch."""

    def shards_of(self, epoch: int, number: int) -> Iterator[int]:
        """Yield the shards that an epoch needs from batch `number` on, each once, in the order of use."""
        seen: set[int] = set()
        for later in range(number, len(self)):
            for shard, _ in self._places(epoch, later):
                if shard not in seen:
                    seen.add(shard)
                    yield shard

    def _usable(self, folder: ShardFolder, pairs: Sequence[PairRecord], captions: Sequence[Sequence[str]]) -> bool:
        """Return whether a group of a folder has the pairs and captions to draw. Others do not count as damaged."""
        return True

    @property
    def is_remote(self) -> bool:
        """Whether any shard is remote."""
        return any(folder.cache is not None for folder, _ in self._shards)

    def fetch(self, shard: int) -> Path:
        """Return the local file of a shard, copied if it is remote; see `ShardFolder.path`."""
        folder, info = self._shards[shard]
        return folder.path(info)

    def _random(self, *what: int) -> np.random.Generator:
        return np.random.default_rng([self._draw.seed, *what])

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_open": {}}  # a spawned worker opens its own files

    def _tar(self, shard: int) -> TarIndex:
        """Return the index of a shard. The `KEPT` most recently used shards stay open."""
        index = self._open.pop(shard, None)
        if index is None:
            path = self.fetch(shard)
            try:
                index = TarIndex(path)
            except OSError as error:
                raise DamagedGroupError("unreadable_file", str(path), error) from error
            if len(self._open) == KEPT:
                self._open.pop(next(iter(self._open))).close()
        self._open[shard] = index
        return index

    def _read(self, place: tuple[int, int], damaged: list[Damage]) -> Group | None:
        """Return the decoded group, or None if it is unusable. Append its damage to `damaged`."""
        folder, _ = self._shards[place[0]]
        try:
            sample = read_sample(self._tar(place[0]), place[1])
            record = _sound_record(sample)
            if not self._usable(folder, record["pairs"], [image["captions"] for image in record["images"]]):
                return None
            group = decode_group(sample, record, self._transform, self._max_pixels)
        except DamagedGroupError as error:
            damaged.append(Damage(error.reason, error.where, self._group_size))
            return None
        group.dataset = folder.dataset
        damaged += group.damaged
        if not group.damaged:
            return group
        whole = [captions for captions, intact in zip(group.captions, group.intact.tolist(), strict=True) if intact]
        return group if self._usable(folder, group.pairs, whole) else None


class PairBatches(GroupStream):
    """Training batches. Each epoch gives different groups to the ranks and draws different pairs.

    Raises:
        ValueError: As `GroupStream`, or there are fewer groups than one batch needs.
    """

    def _count(self) -> int:
        named = [folder.name for folder, _ in self._shards]
        self._orders: list[GroupOrder] = []
        for source, (names, share) in enumerate(self._draw.shares or [(named, self._draw.groups_per_batch)]):
            chosen = set(names)
            shards = np.array([number for number, name in enumerate(named) if name in chosen])
            order = GroupOrder(
                shards,
                self._sizes[shards],
                share,
                rank=self._rank,
                world_size=self._world_size,
                block=self._draw.block,
                seed=self._draw.seed,
                source=source,
            )
            if not order.batches:
                raise ValueError(
                    f"{', '.join(dict.fromkeys(names))}: {order.groups} groups are fewer than the {share} of one batch "
                    f"on each of {self._world_size} processes; lower data.groups_per_batch"
                )
            self._orders.append(order)
        # The epoch does not depend on the shares.
        return self._groups // (self._world_size * self._draw.groups_per_batch)

    def __getitem__(self, place: tuple[int, int]) -> PairBatch:
        """Return a batch by (epoch, number).

        Raises:
            ValueError: No group is usable.
            ConnectionError: A remote shard cannot be read.
        """
        epoch, number = place
        damaged: list[Damage] = []
        groups: list[Group] = []
        for order in self._orders:
            places = order.places(self._step(epoch, number))
            own = [group for one in places if (group := self._read(one, damaged)) is not None]
            if len(own) < len(places):
                own += self._substitutes(order, epoch, number, places, own)
            groups += own
        batch = collate(groups, self._draw.at(epoch), self._tokenizer, self._random(PAIRS, epoch, self._rank, number))
        return batch._replace(damaged=damaged)

    def _step(self, epoch: int, number: int) -> int:
        return epoch * self._batches + number

    def _places(self, epoch: int, number: int) -> list[tuple[int, int]]:
        return [place for order in self._orders for place in order.places(self._step(epoch, number))]

    def _substitutes(
        self, order: GroupOrder, epoch: int, number: int, places: list[tuple[int, int]], groups: list[Group]
    ) -> list[Group]:
        """Return substitutes for unusable groups: other groups of the source, or if none is left, usable ones again."""
        missing = len(places) - len(groups)
        ignored: list[Damage] = []  # counted in the batch to which these groups belong
        own = set(places)
        found: list[Group] = []
        random = order.random(SUBSTITUTES, epoch, self._rank, number)
        for one in order.others(self._step(epoch, number), random):
            if one in own:
                continue
            own.add(one)
            if (group := self._read(one, ignored)) is not None:
                found.append(group)
            if len(found) == missing:
                return found
        usable = groups + found
        if not usable:
            raise ValueError(
                "no usable group in any shard: each needs the pairs (with data.both_directions, in both directions) and "
                "captions that are drawn; `pcclip-data verify` names what is wrong"
            )
        return found + [usable[i] for i in random.integers(len(usable), size=missing - len(found))]

    def _usable(self, folder: ShardFolder, pairs: Sequence[PairRecord], captions: Sequence[Sequence[str]]) -> bool:
        drawn = both_ways(pairs) if self._draw.both_directions else iter(pairs)
        needs_pairs = self._draw.pairs_per_group and folder.info.pairs
        has_pairs = not needs_pairs or next(drawn, None) is not None
        return has_pairs and (any(captions) or not self._draw.captions_per_group)


def _sound_record(sample: Sample) -> GroupRecord:
    try:
        return sample.record()
    except DamagedGroupError:
        raise
    except ValueError as error:  # made wrongly, or damaged but valid JSON; too many of them stop training
        raise DamagedGroupError("wrong_record", sample.where, error) from error
