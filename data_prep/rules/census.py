"""Find pair ids and texts that occur too often among the rows that passed all other rules."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from data_prep.parts import hash64
from data_prep.rules.reading import Text

Hashes = npt.NDArray[np.uint64]


class Census:
    """Hashes of pair ids and texts. It keeps 32 bytes a row.

    Attributes:
        lines: Line number of each row in the input, in ascending order.
    """

    def __init__(self) -> None:
        self.lines = array("q")
        self._ids, self._texts = array("Q"), array("Q")

    def add(self, line: int, pair_id: str, texts: Sequence[Text]) -> None:
        """Add a row with its two texts."""
        self.lines.append(line)
        self._ids.append(hash64(pair_id))
        self._texts.extend([hash64(text.alike) for text in texts])

    def extend(self, other: Census) -> None:
        """Append the rows of a later part of the input."""
        self.lines.extend(other.lines)
        self._ids.extend(other._ids)
        self._texts.extend(other._texts)

    def excess(self, *, pairs: bool, max_repeats: int | None) -> Iterator[tuple[int, str, str]]:
        """Yield (line, reason, detail) of the rows to reject, in the order of the input. The first occurrences stay.

        Args:
            pairs: Whether each pair id may occur only once.
            max_repeats: Maximum number of rows with nearly the same texts. None: no limit.
        """
        ids, texts = np.frombuffer(self._ids, np.uint64), np.frombuffer(self._texts, np.uint64).reshape(-1, 2)
        suspects = np.zeros(len(ids), bool)
        if pairs:
            suspects |= np.isin(ids, _more_often_than(1, ids))
        frequent: set[int] = set()
        if max_repeats is not None:
            values = _more_often_than(max_repeats, texts.ravel())
            suspects |= np.isin(texts, values).any(axis=1)
            frequent = set(values.tolist())
        seen: set[int] = set()
        kept: Counter[int] = Counter()
        for place in np.flatnonzero(suspects).tolist():
            pair, keys = int(ids[place]), set(texts[place].tolist()) & frequent
            if pairs and pair in seen:
                yield self.lines[place], "repeated_pair", "the pair's id occurred before"
                continue
            seen.add(pair)
            if any(kept[key] == max_repeats for key in keys):
                yield self.lines[place], "near_duplicate", f"a text that {max_repeats} other rows have"
                continue
            kept.update(keys)


def _more_often_than(times: int, hashes: Hashes) -> Hashes:
    values, counts = np.unique(hashes, return_counts=True)
    return values[counts > times]
