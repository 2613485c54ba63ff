"""Rules that compare a text with others: with the captions of its two images, and with the texts of other pairs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from data_prep.parts import hash64
from data_prep.rules.said import content_stems
from data_prep.rules.words import FILLERS, SIDES, Remembered, tokens_of, word_set, words_of

MIN_WORDS = 4  # fewer words of content occur in a caption by chance
_LOOSE = {"picture": "image", "photo": "image", "photograph": "image", "pictures": "images", "photos": "images"}
_ARTICLES = frozenset(("a", "an", "the"))


_loose = Remembered(
    lambda token: _LOOSE.get(token, token) if token not in _ARTICLES and token[0].isalnum() else ""
).__getitem__


class CaptionWords:
    """The words of an image's captions, prepared for many comparisons."""

    def __init__(self, captions: Sequence[str]) -> None:
        self._captions = captions
        self.stems = content_stems(tokens_of("\n".join(captions)))

    # Few texts need more than the stems.

    @cached_property
    def exact(self) -> frozenset[tuple[str, ...]]:
        """The words of each caption, in order."""
        return frozenset(map(words_of, self._captions))

    @cached_property
    def sets(self) -> list[frozenset[str]]:
        """The different words of each caption."""
        return [frozenset(words_of(caption)) for caption in self._captions]

    @cached_property
    def all(self) -> frozenset[str]:
        """The different words of all captions."""
        return frozenset().union(*self.sets)


def caption_copy(text: str, first: CaptionWords, second: CaptionWords, min_overlap: float) -> str | None:
    """A mere copy of a caption: the same words, or nearly all from one caption and nothing of the other image.

    A text that names both images compares them, in however few words.

    Args:
        text: The text.
        first: Captions of the first image.
        second: Captions of the second image.
        min_overlap: Least share of the text's words of content that come from one caption.
    """
    if word_set(text).issuperset(SIDES):
        return None
    words = words_of(text)
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
    return hash64(" ".join(filter(None, map(_loose, tokens_of(text)))))
