"""Order in which the groups of shards are read in training. It depends only on seed, rank and number of the batch.

The groups of all shards form a line: the shards in random order, starting at a random position. The line is split into one
equal part for each rank. Each part is shuffled in blocks, and consecutive batches are taken from it. So no group is read
twice, and the ranks do not communicate. When a line ends, the next one has another order.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Purpose of a random number, which is drawn from (seed, purpose, epoch, rank, number). A source adds a multiple of PURPOSES.
LINE, BLOCK, PAIRS, SUBSTITUTES = range(4)
PURPOSES = 4
AT_ONCE = 64  # substitutes that are located together

Place = tuple[int, int]  # number of the shard, place of the group in it


class Line(NamedTuple):
    """Groups of some shards in one line, which may start at any of them.

    Attributes:
        shards: (S,) numbers of the shards in their order.
        ends: (S,) end of each shard in the line.
        start: Place of the first group.
    """

    shards: NDArray[np.int64]
    ends: NDArray[np.int64]
    start: int = 0

    def located(self, places: NDArray[np.int64]) -> list[Place]:
        """Return the groups at places in the line."""
        places = (places + self.start) % self.ends[-1]
        found = np.searchsorted(self.ends, places, side="right")
        starts = np.concatenate(([0], self.ends))[found]
        return list(zip(self.shards[found].tolist(), (places - starts).tolist(), strict=True))


class GroupOrder:
    """Groups of a source for each batch of one rank.

    Args:
        shards: (S,) numbers of the shards.
        sizes: (S,) groups of each.
        share: Groups in each batch.
        rank: Rank of this process.
        world_size: Number of processes.
        block: Number of groups that are shuffled together.
        seed: Seed of all draws.
        source: Number of the source, which makes its draws independent of those of others.

    Attributes:
        batches: Batches until the line ends. It is 0 if the groups are fewer than one batch needs.
    """

    def __init__(
        self,
        shards: NDArray[np.int64],
        sizes: NDArray[np.int64],
        share: int,
        *,
        rank: int,
        world_size: int,
        block: int,
        seed: int,
        source: int = 0,
    ) -> None:
        self.groups, self.share = int(sizes.sum()), share
        self.batches = self.groups // (world_size * share)
        self._shards, self._sizes = shards, sizes
        self._rank, self._block, self._seed, self._source = rank, block, seed, source
        self._present: tuple[int, Line] | None = None

    def random(self, purpose: int, *what: int) -> np.random.Generator:
        """Return the generator of random numbers for a purpose of this source."""
        return np.random.default_rng([self._seed, purpose + PURPOSES * self._source, *what])

    def _line(self, number: int) -> Line:
        if self._present is None or self._present[0] != number:
            # The same on all ranks, so that their parts do not overlap.
            shared = self.random(LINE, number)
            order = shared.permutation(len(self._sizes))
            line = Line(self._shards[order], self._sizes[order].cumsum(), int(shared.integers(self.groups)))
            self._present = (number, line)
        return self._present[1]

    def places(self, step: int) -> list[Place]:
        """Return the groups of a batch, by the number of batches before it in all epochs."""
        line, number = divmod(step, self.batches)
        places = np.arange(number * self.share, (number + 1) * self.share)
        # Blocks of whole batches, so that each group is drawn once with any block size.
        length = max(1, self._block // self.share) * self.share
        block = number * self.share // length
        end = min((block + 1) * length, self.batches * self.share)
        order = self.random(BLOCK, line, self._rank, block).permutation(end - block * length)
        places = block * length + order[places - block * length]
        return self._line(line).located(self._rank * self.batches * self.share + places)

    def others(self, step: int, rng: np.random.Generator) -> Iterator[Place]:
        """Yield groups for substitutes in a batch, neighbours first, since their shard is open."""
        line, number = divmod(step, self.batches)
        start = (self._rank * self.batches + number) * self.share
        for candidates in (self._block, self.groups):
            nearby = start + rng.permutation(min(candidates, self.groups))
            for first in range(0, len(nearby), AT_ONCE):
                yield from self._line(line).located(nearby[first : first + AT_ONCE])
