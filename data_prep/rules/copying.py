"""The rule that compares a text with the captions of its two images."""

from collections.abc import Sequence
from functools import cached_property

from data_prep.rules.reading import Reader, Text
from data_prep.rules.words import FILLERS, SIDES

MIN_WORDS = 4  # fewer words of content occur in a caption by chance


class CaptionWords:
    """The words of an image's captions, prepared for many comparisons.

    Args:
        captions: The captions.
        reader: Reads them.

    Attributes:
        stems: Stems of their words of content.
    """

    def __init__(self, captions: Sequence[str], reader: Reader) -> None:
        self._captions = captions
        self._reader = reader
        self.stems = reader.content("\n".join(captions))

    @cached_property
    def orders(self) -> list[list[str]]:
        """The words of each caption, in order. Few texts need them."""
        return [self._reader.read(caption).words for caption in self._captions]

    @cached_property
    def all(self) -> frozenset[str]:
        """The different words of all captions."""
        return frozenset().union(*self.orders)


def caption_copy(text: Text, first: CaptionWords, second: CaptionWords, min_overlap: float) -> str | None:
    """A mere copy of a caption: the same words, or nearly all from one caption and nothing of the other image.

    A text that names both images compares them, in however few words.

    Args:
        text: The text.
        first: Captions of the first image.
        second: Captions of the second image.
        min_overlap: Least share of the text's words of content that come from one caption.
    """
    if text.signs.issuperset(SIDES):
        return None
    words = text.words
    content = set(words) - FILLERS
    for name, own, other in (("first", first, second), ("second", second, first)):
        if words in own.orders:
            return f"a caption of the {name} image"
        if len(content) < MIN_WORDS or (content & other.all) - own.all:
            continue
        overlap = max((len(content.intersection(caption)) for caption in own.orders), default=0) / len(content)
        if overlap >= min_overlap:
            return f"{overlap:.0%} of its words from a caption of the {name} image, none of the other"
    return None
