"""What the rules have in common: the words of a text, and which image it speaks of."""

from __future__ import annotations

import re
from functools import lru_cache

_TOKEN = re.compile(r"[^\W_]+(?:'[^\W_]+)*|[^\w\s]")
_IMAGE = r"(?:image|picture|photograph|photo)"
# Training texts say "first" and "second"; language models say these as well. "In the first image 2 dogs" is none of them.
_NUMBERED = rf"(?<!first )(?<!second ){_IMAGE} #?"
_FIRST = re.compile(rf"\b(?:1st|{_NUMBERED}1|left(?:[- ]hand)? (?:{_IMAGE}|one)|former)\b")
_SECOND = re.compile(rf"\b(?:2nd|{_NUMBERED}2|right(?:[- ]hand)? (?:{_IMAGE}|one)|latter)\b")
_OTHER_NAMES = ("1", "2", "left", "right", "former", "latter")
# What stands in for a second mention: "of the two, the first has more", "the first is the one with more".
_IMPLIED = re.compile(r"\b(?:both|each|than|the two|the other|the one)\b")

SIDES = ("first", "second")
FILLERS = frozenset(  # words that say nothing about what an image shows
    """a an and are as at be but by can compared contain contains depict depicts does feature features first for from has
    have image images in instead is it its look looks next of on one or other photo photos picture pictures scene second
    see seen show showing shown shows than that the them there these they this those to unlike we whereas which while with
    you much slightly somewhat far bit little lot even rather more less fewer most""".split()  # noqa: SIM905
)


@lru_cache(maxsize=16)
def plain(text: str) -> str:
    """Lower case, with straight quotes, and the images named "first" and "second"."""
    text = text.lower()
    if not text.isascii():
        for curly, straight in (("\u2019", "'"), ("\u2018", "'"), ("\u201c", '"'), ("\u201d", '"')):
            text = text.replace(curly, straight)
    if any(name in text for name in _OTHER_NAMES):
        text = _SECOND.sub("second", _FIRST.sub("first", text))
    return text


@lru_cache(maxsize=16)
def tokens_of(text: str) -> tuple[str, ...]:
    """Words and punctuation marks of `plain(text)`."""
    return tuple(_TOKEN.findall(plain(text)))


@lru_cache(maxsize=16)
def words_of(text: str) -> tuple[str, ...]:
    """Words of `plain(text)`."""
    return tuple(token for token in tokens_of(text) if token[0].isalnum())


def means_both(text: str) -> bool:
    """Whether a text that names one image means the other too: "of the two, the first is brighter"."""
    return _IMPLIED.search(plain(text)) is not None


def singular(word: str) -> str:
    """A word without the s of the plural, roughly."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
