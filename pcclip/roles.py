"""Exchange the roles "first" and "second" in a difference text."""

import re

_ROLE = re.compile(r"\b(first|second)\b", re.IGNORECASE)


def swap_roles(text: str) -> str:
    """Exchange the words "first" and "second", and keep their capitals.

    The result describes the reversed pair, but mentions the two images in the same order as before.

    Raises:
        ValueError: The text contains neither word, so it has no roles to exchange.

    Examples:
        >>> swap_roles("The first animal is larger than the second.")
        'The second animal is larger than the first.'
    """
    swapped, count = _ROLE.subn(_exchange, text)
    if count == 0:
        raise ValueError(f'"{text}": contains neither "first" nor "second", so there are no roles to exchange')
    return swapped


def has_roles(text: str) -> bool:
    """Return whether the text has the word "first" or "second"."""
    return _ROLE.search(text) is not None


def _exchange(match: re.Match[str]) -> str:
    word = match.group()
    other = "second" if word.lower() == "first" else "first"
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other
