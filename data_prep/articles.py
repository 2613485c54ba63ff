"""English articles."""

import re

_OPEN = re.compile(r"([aA])\(n\)(?=\s+(\S))")


def with_articles(text: str) -> str:
    """Return the text with "a" or "an" for each `a(n)`, by the first letter of the next word."""
    return _OPEN.sub(lambda found: found[1] + ("n" if found[2].lower() in "aeiou" else ""), text)
