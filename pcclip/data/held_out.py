"""Batches of held-out pairs: every group once. The batches do not depend on the number of processes."""

from collections.abc import Sequence

import numpy as np

from pcclip.batch import PairBatch, PairRow
from pcclip.data.collate import collate
from pcclip.data.damage import Damage
from pcclip.data.group_order import PAIRS, Line
from pcclip.data.groups import Group
from pcclip.data.record import both_ways
from pcclip.data.stream import GroupStream


class HeldOutBatches(GroupStream):
    """Dataset of all groups in order, in batches of nearly equal size with at most `groups_per_batch` groups.

    Each rank gets consecutive batches. All ranks have the same number of batches; the last ones may be empty. Damaged groups
    are skipped without a substitute. The same pairs are drawn every time. With `pairs_per_group=None`, batches have all pairs
    and their `rows`.
    """

    def _count(self) -> int:
        whole = -(-self._groups // self._draw.groups_per_batch)
        self._bounds = [number * self._groups // whole for number in range(whole + 1)]
        return -(-whole // self._world_size)

    def __getitem__(self, place: tuple[int, int]) -> PairBatch:
        """Return a batch by (epoch, number). It is the same in all epochs.

        Raises:
            ConnectionError: A remote shard cannot be read.
        """
        damaged: list[Damage] = []
        read = [(shard, self._read((shard, at), damaged)) for shard, at in self._places(*place)]
        groups = [(self._shards[shard][0].name, group) for shard, group in read if group is not None]
        rng = self._random(PAIRS, 0, 0, self._rank * self._batches + place[1])
        batch = collate([group for _, group in groups], self._draw, self._tokenizer, rng)
        rows = _rows(groups) if self._draw.pairs_per_group is None else []
        return batch._replace(damaged=damaged, rows=rows)

    def _places(self, epoch: int, number: int) -> list[tuple[int, int]]:
        number += self._rank * self._batches  # the last ranks' last batches may be empty
        places = np.arange(*self._bounds[number : number + 2]) if number + 1 < len(self._bounds) else np.arange(0)
        return Line(np.arange(len(self._sizes)), self._sizes.cumsum()).located(places)


def _rows(groups: Sequence[tuple[str, Group]]) -> list[PairRow]:
    rows: list[PairRow] = []
    for folder, group in groups:
        reverse: dict[int, int] = {}
        place = {id(pair): len(rows) + number for number, pair in enumerate(group.pairs)}
        for one, other in both_ways(group.pairs):
            reverse |= {place[id(one)]: place[id(other)], place[id(other)]: place[id(one)]}
        for pair in group.pairs:
            first, second = group.ids[pair["first"]], group.ids[pair["second"]]
            rows.append(PairRow(folder, group.key, first, second, pair["text"], reverse.get(place[id(pair)])))
    return rows
