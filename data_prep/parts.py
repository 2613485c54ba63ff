"""Divide a step's input into parts, so that several machines can share the work."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """One of `count` parts of about equal size. Each key belongs to exactly one part, the same on every machine.

    Attributes:
        index: Index of the part, from 0.
        count: Number of parts.
    """

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str | None, where: str) -> Part:
        """Parse an option such as `1/4`, the first of four parts. None is the whole input.

        Args:
            text: Value of the option.
            where: Name of the option for errors, e.g. `describe.part`.

        Raises:
            ValueError: Not of the form K/N with 1 <= K <= N.
        """
        if text is None:
            return cls()
        found = re.fullmatch(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,8})", text)
        if found is None or int(found[1]) > int(found[2]):
            raise ValueError(f"{where} must be K/N, such as 1/4 to 4/4, found {text!r}")
        return cls(int(found[1]) - 1, int(found[2]))

    def holds(self, key: str) -> bool:
        """Return whether a key belongs to this part."""
        return self.count == 1 or hash64(key) % self.count == self.index


def hash64(text: str) -> int:
    """Return a 64-bit hash of a text, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), "little")
