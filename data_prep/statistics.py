"""Counts of numbers, small whatever their number, and their summary in one line."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Histogram:
    """How often each whole number occurred."""

    counts: Counter[int] = field(default_factory=Counter)

    def add(self, value: int) -> None:
        """Count a number."""
        self.counts[value] += 1

    def merge(self, other: Histogram) -> None:
        """Count all that another has counted."""
        self.counts.update(other.counts)

    @property
    def total(self) -> int:
        """How many numbers were counted."""
        return self.counts.total()

    @property
    def mean(self) -> float:
        """Their mean; 0 of none."""
        return sum(value * count for value, count in self.counts.items()) / max(self.total, 1)

    def quantile(self, share: float) -> int:
        """The smallest number that at least `share` of all do not exceed; 0 of none."""
        seen = 0
        for value in sorted(self.counts):
            seen += self.counts[value]
            if seen >= share * self.total:
                return value
        return 0

    def above(self, limit: int) -> int:
        """How many are larger than `limit`."""
        return sum(count for value, count in self.counts.items() if value > limit)

    def __str__(self) -> str:
        if not self.counts:
            return "none"
        return (
            f"mean {self.mean:.1f}, median {self.quantile(0.5)}, 95 % up to {self.quantile(0.95)}, "
            f"{min(self.counts)} to {max(self.counts)}"
        )
