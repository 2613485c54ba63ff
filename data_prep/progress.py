"""The progress bar of the steps."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress(items: Iterable[T], *, desc: str, unit: str, total: int | None = None) -> tqdm[T]:
    """A tqdm bar that stays away from what takes under two seconds, and writes rarely where no terminal shows it."""
    interval = 0.1 if sys.stderr.isatty() else 10.0
    return tqdm(items, desc=desc, unit=unit, total=total, delay=2, mininterval=interval, maxinterval=interval)
