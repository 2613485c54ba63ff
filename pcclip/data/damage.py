"""Damage of shards: reasons for skipping images and groups, and counts of them."""

import logging
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

logger = logging.getLogger(__name__)

REASONS = {
    "empty_file": "the shard is an empty file",
    "not_a_tar": "the shard is no tar, or compressed",
    "truncated": "the shard ends too early",
    "broken_header": "the shard's headers are overwritten or out of order",
    "unreadable_file": "the shard cannot be opened or read from its disk",
    "duplicate_key": "another group of the shard has the same key",
    "foreign_member": "a link, folder or device in place of a file",
    "missing_record": "a group without its .json",
    "broken_record": "a .json that is not JSON",
    "wrong_record": "a .json without the right content",
    "broken_embeddings": "embeddings that are missing or no float array (G, D)",
    "damaged_row": "an embedding that is not finite, since its image was damaged",
    "missing_image": "an image that is not there",
    "broken_image": "an image that cannot be decoded",
    "oversized_image": "an image of more pixels than `data.max_pixels`",
}
SHOWN = 10  # of each reason, in the log and in messages


class Damage(NamedTuple):
    """One image, group or shard that is skipped.

    Attributes:
        reason: One of `REASONS`.
        where: Shard, group and image, and the decoder's message.
        images: Number of images lost.
    """

    reason: str
    where: str
    images: int = 1


class DamagedGroupError(ValueError):
    """An unreadable group. Readers skip and count it."""

    def __init__(self, reason: str, where: str, detail: object = "") -> None:
        super().__init__(f"{where}: {REASONS[reason]}" + (f" ({detail})" if detail else ""))
        self.reason = reason
        self.where = f"{where} ({detail})" if detail else where


class DamageTally:
    """Counts of skipped data in one process, by reason. Stops training if too much is damaged.

    Args:
        limit: Maximum share of an epoch's images that may be lost.
        images: Number of images of this process in one epoch.
    """

    def __init__(self, limit: float, images: int) -> None:
        self._limit = limit
        self._images = images
        self.epoch: Counter[str] = Counter()
        self.total: Counter[str] = Counter()
        self._lost = 0
        self._places: dict[str, list[str]] = {}

    def begin_epoch(self) -> None:
        """Reset the counts of the epoch, but not the total."""
        self.epoch.clear()
        self._places.clear()
        self._lost = 0

    def add(self, damaged: Iterable[Damage]) -> None:
        """Count what was skipped for a batch.

        Raises:
            ValueError: More than the limit is lost. Lists the first places for each reason.
        """
        for reason, where, images in damaged:
            self.epoch[reason] += 1
            self.total[reason] += 1
            self._lost += images
            places = self._places.setdefault(reason, [])
            if len(places) < SHOWN:
                places.append(where)
            if self.total[reason] <= SHOWN:
                more = "; more of this kind are counted only" if self.total[reason] == SHOWN else ""
                logger.warning("left out, %s: %s%s", reason, where, more)
        if self._lost > self._limit * self._images:
            raise ValueError(
                f"{self._lost} of this process's {self._images} images of the epoch are damaged, more than "
                f"data.max_damaged={self._limit:g} allows; copy or make the shards again (`pcclip-data verify` names the "
                f"damage), or raise the limit. Damaged so far in this epoch:\n{self.listing()}"
            )

    def listing(self) -> str:
        """Return the epoch's counts by reason, with the first places for each."""
        lines = []
        for reason, places in self._places.items():
            lines += [f"{reason} ({REASONS[reason]}): {self.epoch[reason]}", *(f"  {place}" for place in places)]
            if self.epoch[reason] > len(places):
                lines.append("  ...")
        return "\n".join(lines)
