"""Rules that ask what a text says of each image: nothing, what the captions say of the other one, or what they say of none."""

from data_prep.rules.reading import Text
from data_prep.rules.words import SIDES

Stems = frozenset[str]

MIN_CROSS = 2  # words that only the other image's captions have
CROSS_RATIO = 2.0  # how many times as many as those of its own image
MIN_SAID = 4  # words said of an image, below which nothing can be missed among the captions
MIN_TOTAL = 6  # the same of both images together
MIN_COMPARED = 12  # the same of texts with comparatives
MIN_CONTENT = 2  # words of content in a text that says anything
MIN_CAPTION = 3  # words in an image's captions
RICH_CAPTIONS = 10  # words in captions that describe an image's content from several sides
MIN_SHARE = 0.2  # least share of a text's words that stand in rich captions; right texts have 0.57 and more
HALF_SHARE = 0.5  # share of the words of one image, from which on the other image's should be found, too


def one_sided(text: Text) -> str | None:
    """Nothing is said of one of the images, nor how they compare."""
    if text.compares:
        return None
    said = text.said
    if said.words < MIN_CONTENT and len(text.content) < MIN_CONTENT:
        return "nothing of either image"
    return f"nothing of the {said.bare} image" if said.bare and said.each_named else None


def exchanged(text: Text, first: Stems, second: Stems) -> str | None:
    """The text says of one image what only the captions of the other say.

    Args:
        text: The text.
        first: Stems of the captions of the image that it calls the first.
        second: Stems of those of the second.
    """
    of_first, of_second = text.said.first, text.said.second
    across = ((of_first & second) - first, (of_second & first) - second)
    if len(across[0]) + len(across[1]) < MIN_CROSS:  # nearly all texts
        return None
    across = (across[0] - of_second, across[1] - of_first)
    cross = across[0] | across[1]
    straight = ((of_first & first) - second - of_second) | ((of_second & second) - first - of_first)
    # With comparatives, what is less in one image may be what the captions of the other speak of.
    if len(cross) < MIN_CROSS or (text.compares and (straight or not all(across))):
        return None
    if len(cross) > CROSS_RATIO * len(straight):
        return f"{sorted(cross)[:4]} said of the other image, {sorted(straight)[:4]} of its own"
    return None


def other_images(text: Text, reverse_text: Text, first: Stems, second: Stems) -> str | None:
    """What the two directions say of one image or both has hardly a word in common with its captions.

    Args:
        text: Of the first image against the second.
        reverse_text: Of the second image against the first.
        first: Stems of the captions of the first image.
        second: Stems of those of the second.
    """
    if min(len(first), len(second)) < MIN_CAPTION:
        return None
    words = (text.said.first | reverse_text.said.second, text.said.second | reverse_text.said.first)
    hits = (len(words[0] & first), len(words[1] & second))
    total = len(words[0]) + len(words[1])
    if text.compares or reverse_text.compares:  # such texts speak of relations, for which captions have no words
        none = total >= MIN_COMPARED and not any(hits)
        return f"none of {total} words in the captions of the two images" if none else None
    rich = min(len(first), len(second)) >= RICH_CAPTIONS
    if total >= MIN_TOTAL and sum(hits) <= (MIN_SHARE * total if rich else 0):
        return f"{sum(hits)} of {total} words in the captions of the two images"
    for side, other in ((0, 1), (1, 0)):
        if len(words[side]) >= MIN_SAID and not hits[side] and hits[other] >= HALF_SHARE * len(words[other]) > 0:
            return f"{sorted(words[side])[:5]} of the {SIDES[side]} image, no word of its captions"
    return None
