"""Rules that ask what a text says of each image: nothing, what the captions say of the other one, or what they say of none."""

from __future__ import annotations

from data_prep.rules.said import content_stems, said, shown
from data_prep.rules.words import SIDES, compares, tokens_of

Stems = frozenset[str]

MIN_CROSS = 2  # words that only the other image's captions have
CROSS_RATIO = 2.0  # how many times as many as those of its own image
MIN_SAID = 4  # words said of an image, below which nothing can be missed among the captions
MIN_TOTAL = 6  # the same of both images together
MIN_COMPARED = 12  # the same of texts with comparatives
MIN_CONTENT = 2  # words of content in a text that says anything
MIN_CAPTION = 3  # words in an image's captions
RICH_CAPTIONS = 10  # words in captions that tell an image's content from several sides
MIN_SHARE = 0.2  # least share of a text's words that stand in rich captions; right texts have 0.57 and more
HALF_SHARE = 0.5  # share of the words of one image, from which on the other image's should be found, too


def one_sided(text: str) -> str | None:
    """Nothing is said of one of the images, nor how they compare."""
    if compares(text):
        return None
    found = said(text)
    if sum([len(part.words) for part in found]) < MIN_CONTENT and len(content_stems(tokens_of(text))) < MIN_CONTENT:
        return "nothing of either image"
    bare = {part.side for part in found} - {part.side for part in found if part.words or part.negated}
    if not bare or not all(part.named for part in found):
        return None
    return f"nothing of the {next(side for side in SIDES if side in bare)} image"


def exchanged(text: str, first: Stems, second: Stems) -> str | None:
    """The text says of one image what only the captions of the other say.

    Args:
        text: The text.
        first: Stems of the captions of the image that it calls the first.
        second: Stems of those of the second.
    """
    found = shown(text)
    of_first, of_second = found["first"] - found["second"], found["second"] - found["first"]
    across = [(of_first & second) - first, (of_second & first) - second]
    cross = across[0] | across[1]
    if len(cross) < MIN_CROSS:
        return None
    straight = (of_first & first) - second | (of_second & second) - first
    # With comparatives, what is less in one image may be what the captions of the other speak of.
    if compares(text) and (straight or not all(across)):
        return None
    if len(cross) > CROSS_RATIO * len(straight):
        return f"{sorted(cross)[:4]} said of the other image, {sorted(straight)[:4]} of its own"
    return None


def other_images(text: str, reverse_text: str, first: Stems, second: Stems) -> str | None:
    """What the two directions say of one image or both has hardly a word in common with its captions.

    Args:
        text: Of the first image against the second.
        reverse_text: Of the second image against the first.
        first: Stems of the captions of the first image.
        second: Stems of those of the second.
    """
    if min(len(first), len(second)) < MIN_CAPTION:
        return None
    forward, backward = shown(text), shown(reverse_text)
    words = (forward["first"] | backward["second"], forward["second"] | backward["first"])
    hits = (len(words[0] & first), len(words[1] & second))
    total = len(words[0]) + len(words[1])
    if compares(text) or compares(reverse_text):  # such texts speak of relations, for which captions have no words
        none = total >= MIN_COMPARED and not any(hits)
        return f"none of {total} words in the captions of the two images" if none else None
    rich = min(len(first), len(second)) >= RICH_CAPTIONS
    if total >= MIN_TOTAL and sum(hits) <= (MIN_SHARE * total if rich else 0):
        return f"{sum(hits)} of {total} words in the captions of the two images"
    for side, other in ((0, 1), (1, 0)):
        if len(words[side]) >= MIN_SAID and not hits[side] and hits[other] >= HALF_SHARE * len(words[other]) > 0:
            return f"{sorted(words[side])[:5]} of the {SIDES[side]} image, no word of its captions"
    return None
