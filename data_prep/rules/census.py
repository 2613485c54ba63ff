"""What occurs more than once in a file of differences, found by a first look at all of its rows."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np

from data_prep.files import Row
from data_prep.rules.copying import fingerprint, hash64
from data_prep.rules.cuts import cut


class Census:
    """Counts texts and pair ids of all rows; keeps 8 bytes of each, and afterwards only what is frequent.

    Args:
        rows: The rows.
        max_repeats: How many texts may be alike; None: any number.

    Attributes:
        rows: Number of rows.
    """

    def __init__(self, rows: Iterable[Row], max_repeats: int | None) -> None:
        texts, ids = array("q"), array("q")
        for row in rows:
            ids.append(hash64(row["pair_id"]))
            if max_repeats is not None:
                texts.append(fingerprint(cut(row["text"])[0]))
                texts.append(fingerprint(cut(row["reverse_text"])[0]))
        self.rows = len(ids)
        self._max_repeats = max_repeats
        self._kept = dict.fromkeys(_more_often_than(max_repeats or 0, texts), 0)
        self._ids = dict.fromkeys(_more_often_than(1, ids), False)

    def is_repeated_pair(self, pair_id: str) -> bool:
        """Whether this pair was already asked about."""
        key = hash64(pair_id)
        if key not in self._ids:
            return False
        repeated, self._ids[key] = self._ids[key], True
        return repeated

    def repeats(self, texts: Iterable[str]) -> str | None:
        """Count a row's texts as kept, unless one of them was kept as often as is allowed: return that one."""
        keys = {fingerprint(text): text for text in texts}
        for key, text in keys.items():
            if self._kept.get(key, -1) == self._max_repeats:
                return text
        for key in keys:
            if key in self._kept:
                self._kept[key] += 1
        return None


def _more_often_than(times: int, hashes: array[int]) -> list[int]:
    if not hashes:
        return []
    values, counts = np.unique(np.frombuffer(hashes, np.int64), return_counts=True)
    frequent: list[int] = values[counts > times].tolist()
    return frequent
