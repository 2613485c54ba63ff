"""Rules that compare a text with the captions of its two images."""

from collections.abc import Sequence, Set

from data_prep.rules.reading import Reader, Text
from data_prep.rules.words import FILLERS, SIDES

Stems = Set[str]

MIN_WORDS = 4  # fewer words of content occur in a caption by chance
MIN_OVERLAP = 0.9  # least share of the words of a copy that one caption has
MIN_CROSS = 2  # words that only the other image's captions have
CROSS_RATIO = 2.0  # how many times as many as those of its own image
MIN_SAID = 4  # words said of an image, below which nothing can be missed among the captions
MIN_TOTAL = 6  # the same of both images together
MIN_COMPARED = 12  # the same of texts with comparatives
MIN_CAPTION = 3  # words in an image's captions
RICH_CAPTIONS = 10  # words in captions that describe an image's content from several sides
MIN_SHARE = 0.2  # least share of a text's words that stand in rich captions; right texts have 0.57 and more
HALF_SHARE = 0.5  # share of the words of one image, from which on the other image's should be found, too


class CaptionWords:
    """Words of an image's captions, prepared for many comparisons.

    Args:
        captions: The captions.
        reader: Reads them.

    Attributes:
        orders: The words of each caption, in order.
        all: The distinct words of all captions.
        stems: Stems of the content words.
    """

    def __init__(self, captions: Sequence[str], reader: Reader) -> None:
        texts = [reader.read(caption) for caption in captions]
        self.orders = [text.words for text in texts]
        self.all: frozenset[str] = frozenset().union(*self.orders)
        self.stems: Stems = frozenset().union(*(text.content for text in texts))


def caption_copy(text: Text, first: CaptionWords, second: CaptionWords) -> str | None:
    """Find a copy of a caption: the same words, or nearly all words from one caption and none about the other image.

    A text that names both images is a comparison, not a copy.

    Args:
        text: The text.
        first: Captions of the first image.
        second: Captions of the second image.
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
        if overlap >= MIN_OVERLAP:
            return f"{overlap:.0%} of its words from a caption of the {name} image, none of the other"
    return None


def exchanged(text: Text, first: Stems, second: Stems) -> str | None:
    """Find words said of one image that occur only in the captions of the other image.

    Args:
        text: The text.
        first: Stems of the captions of the text's first image.
        second: Stems of the captions of the text's second image.
    """
    of_first, of_second = text.said
    across = ((of_first & second) - first - of_second, (of_second & first) - second - of_first)
    cross = across[0] | across[1]
    straight = ((of_first & first) - second - of_second) | ((of_second & second) - first - of_first)
    # A comparative may mention in one image what only the captions of the other describe ("less snow than").
    if len(cross) < MIN_CROSS or (text.compares and (straight or not all(across))):
        return None
    if len(cross) > CROSS_RATIO * len(straight):
        return f"{sorted(cross)[:4]} said of the other image, {sorted(straight)[:4]} of its own"
    return None


def said_by_both(text: Text, reverse_text: Text) -> tuple[Stems, Stems]:
    """Return the stems that both directions together say of the first and of the second image of `text`."""
    return text.said[0] | reverse_text.said[1], text.said[1] | reverse_text.said[0]


def other_images(said: tuple[Stems, Stems], captions: tuple[Stems, Stems], compares: bool) -> str | None:
    """Find texts that share hardly any word with the captions of one image or both.

    Args:
        said: What the texts say of each image; see `said_by_both`.
        captions: Stems of the captions of each image.
        compares: Whether a text uses a comparative. Captions rarely contain words for relations.
    """
    fewest = min(map(len, captions))
    if fewest < MIN_CAPTION:
        return None
    hits = (len(said[0] & captions[0]), len(said[1] & captions[1]))
    total = len(said[0]) + len(said[1])
    if compares:
        none = total >= MIN_COMPARED and not any(hits)
        return f"none of {total} words in the captions of the two images" if none else None
    if total >= MIN_TOTAL and sum(hits) <= (MIN_SHARE * total if fewest >= RICH_CAPTIONS else 0):
        return f"{sum(hits)} of {total} words in the captions of the two images"
    for side, other in ((0, 1), (1, 0)):
        if len(said[side]) >= MIN_SAID and not hits[side] and hits[other] >= HALF_SHARE * len(said[other]) > 0:
            return f"{sorted(said[side])[:5]} of the {SIDES[side]} image, no word of its captions"
    return None
