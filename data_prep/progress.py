"""The progress bar of the steps."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress(items: Iterable[T], *, desc: str, unit: str, total: int | None = None) -> tqdm[T]:
    """Return a tqdm bar over items."""
    return tqdm(items, desc=desc, unit=unit, total=total, **timing())


def timing() -> dict[str, Any]:
    """Return options of a tqdm bar: nothing in the first two seconds, and few updates where stderr is not a terminal."""
    interval = 0.1 if sys.stderr.isatty() else 10.0
    return {"delay": 2, "mininterval": interval, "maxinterval": interval}
