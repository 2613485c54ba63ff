"""A describer without a language model: joins the captions of two images by templates. A baseline to compare with."""

from __future__ import annotations

import random
from collections.abc import Sequence

TEMPLATES = (
    "The first image shows {first}, while the second image shows {second}.",
    "In the first image, {first}, whereas in the second image, {second}.",
    "The first image depicts {first}; the second depicts {second}.",
    "The first picture is of {first}, but the second is of {second}.",
    "While the first image has {first}, the second image has {second}.",
    "{first} in the first image, {second} in the second.",  # "first" and "second" behind what they speak of
    "{first} can be seen in the first image, whereas the second shows {second}.",
    "There is {first} in the first image; in contrast, there is {second} in the second.",
)


def compose(seed: int, pair_id: str, first: Sequence[str], second: Sequence[str]) -> tuple[str, str]:
    """First against second and second against first, from one caption of each, drawn as the templates are.

    What is drawn depends on the seed and the pair alone, not on what else is described.

    Args:
        seed: Of the draws.
        pair_id: Of the pair.
        first: Captions of the first image, at least one.
        second: Captions of the second image, at least one.
    """
    rng = random.Random(f"{seed}/{pair_id}")
    a, b = phrase(rng.choice(first)), phrase(rng.choice(second))
    text = rng.choice(TEMPLATES).format(first=a, second=b)
    reverse = rng.choice(TEMPLATES).format(first=b, second=a)
    return text[:1].upper() + text[1:], reverse[:1].upper() + reverse[1:]


def phrase(caption: str) -> str:
    """A caption made fit for the middle of a sentence: no full stop, and a small letter for an article at its head."""
    words = caption.strip().rstrip(".!;,").split()
    if words and words[0] in ("A", "An", "The", "Two", "Three", "Some", "Several", "Many", "There", "This", "People"):
        words[0] = words[0].lower()
    return " ".join(words)
