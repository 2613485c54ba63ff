"""Parts of a step's input, so that several machines can share the work."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """One of several equally large parts. Every key belongs to exactly one of them, on every machine.

    Attributes:
        index: From 0.
        count: Number of parts; 1 is everything.
    """

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str | None, where: str) -> Part:
        """Parse `1/4` to `4/4`; None is everything.

        Args:
            text: The option's value.
            where: Name of the option, for the error, e.g. `describe.part`.

        Raises:
            ValueError: Not of the form K/N with 1 <= K <= N.
        """
        if text is None:
            return cls()
        found = re.fullmatch(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,8})", text)
        if found is None or int(found[1]) > int(found[2]):
            raise ValueError(f"{where} must be the number of a part and the number of parts, 1/4 to 4/4: {text!r}")
        return cls(int(found[1]) - 1, int(found[2]))

    def holds(self, key: str) -> bool:
        """Return whether a key belongs to this part."""
        return self.count == 1 or hash64(key) % self.count == self.index


def hash64(text: str) -> int:
    """Return a 64-bit hash of a text, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), "little")
