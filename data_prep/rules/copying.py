"""Rules that compare a text with others: with the captions of its two images, and with the texts of other pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from data_prep.rules.words import FILLERS, SIDES, words_of

MIN_WORDS = 4  # fewer words of content occur in a caption by chance
_LOOSE = {"picture": "image", "photo": "image", "photograph": "image", "pictures": "images", "photos": "images"}
_ARTICLES = frozenset(("a", "an", "the"))


class CaptionWords:
    """The words of an image's captions, prepared for many comparisons."""

    def __init__(self, captions: Sequence[str]) -> None:
        lists = [words_of(caption) for caption in captions]
        self.exact = frozenset(lists)
        self.sets = [frozenset(words) for words in lists]
        self.all = frozenset().union(*self.sets)


def caption_copy(text: str, first: CaptionWords, second: CaptionWords, min_overlap: float) -> str | None:
    """A mere copy of a caption: the same words, or nearly all from one caption and nothing of the other image.

    A text that names both images compares them, in however few words.

    Args:
        text: The text.
        first: Captions of the first image.
        second: Captions of the second image.
        min_overlap: Least share of the text's words of content that come from one caption.
    """
    words = words_of(text)
    if all(side in words for side in SIDES):
        return None
    content = {word for word in words if word not in FILLERS}
    for name, own, other in (("first", first, second), ("second", second, first)):
        if words in own.exact:
            return f"a caption of the {name} image"
        if len(content) < MIN_WORDS or (content & other.all) - own.all:
            continue
        overlap = max((len(content & caption) for caption in own.sets), default=0) / len(content)
        if overlap >= min_overlap:
            return f"{overlap:.0%} of its words from a caption of the {name} image, none of the other"
    return None


def fingerprint(text: str) -> int:
    """A 64-bit hash, equal for texts that differ only in case, punctuation, articles or the word for "image".

    Looser likeness would not do: two right texts may differ in the one word that matters.
    """
    words = (_LOOSE.get(word, word) for word in words_of(text) if word not in _ARTICLES)
    return hash64(" ".join(words))


def hash64(text: str) -> int:
    """A hash of 64 bits with sign, the same in every run."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
