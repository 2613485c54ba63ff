"""The world's vocabulary: words for graded attributes, and noun phrases about a scene."""

import random
from bisect import bisect
from collections.abc import Collection

from data_prep.world.scene import SIZES, Scene

NUMERALS = ("no", "one", "two", "three", "four")

# Upper bounds of all grades except the last, and the words for each grade.
SIZE_BOUNDS = tuple(SIZES[0] + fifth * (SIZES[1] - SIZES[0]) / 5 for fifth in (1, 2, 3, 4))
SIZE_WORDS = (("tiny", "very small"), ("small",), ("medium-sized",), ("large", "big"), ("huge", "very large"))
BRIGHTNESS_BOUNDS = (0.2, 0.4, 0.6, 0.8)
BRIGHTNESS_WORDS = (
    ("almost black", "very dark"),
    ("dark", "dim"),
    ("grey", "medium grey"),
    ("light", "bright", "light grey"),
    ("almost white", "very bright", "pale"),
)
POSITION_BOUNDS = (0.24, 0.42, 0.58, 0.76)
POSITION_WORDS = (
    ("on the far left", "at the far left", "close to the left edge"),
    ("on the left", "on the left side", "to the left", "left of the middle"),
    ("in the middle", "in the centre", "near the middle"),
    ("on the right", "on the right side", "to the right", "right of the middle"),
    ("on the far right", "at the far right", "close to the right edge"),
)
GRADED = ("size", "count", "brightness", "position")


def grade(scene: Scene, attribute: str) -> int:
    """Return the grade of a graded attribute: 0 to 4, or for `count` the number itself."""
    if attribute == "count":
        return scene.count
    bounds = {"size": SIZE_BOUNDS, "brightness": BRIGHTNESS_BOUNDS, "position": POSITION_BOUNDS}[attribute]
    return bisect(bounds, getattr(scene, attribute))


def plural(shape: str) -> str:
    """Return the plural, e.g. `circles` or `crosses`."""
    return shape + ("es" if shape.endswith("s") else "s")


def with_article(phrase: str) -> str:
    """Return a phrase with `a` or `an`, e.g. `an orange star`."""
    return f"{'an' if phrase[0] in 'aeio' else 'a'} {phrase}"


def noun(scene: Scene, shape: str = "shape") -> str:
    """Return the noun `shape`, in the plural if the scene has several shapes."""
    return shape if scene.count == 1 else plural(shape)


def noun_phrase(rng: random.Random, scene: Scene, named: Collection[str]) -> str:
    """Return a phrase about the scene with the attributes in `named`, e.g. `three tiny red stars`."""
    words = []
    if "size" in named:
        words.append(rng.choice(SIZE_WORDS[grade(scene, "size")]))
    if "colour" in named:
        words.append(scene.colour)
    words.append(noun(scene, scene.shape if "shape" in named else "shape"))
    phrase = " ".join(words)
    if scene.count == 1:
        return f"{rng.choice(('one', 'a single'))} {phrase}" if "count" in named else with_article(phrase)
    if "count" in named:
        return f"{NUMERALS[scene.count]} {phrase}"
    return phrase if rng.random() < 0.7 else f"some {phrase}"


def background_phrase(rng: random.Random, scene: Scene) -> str:
    """Return a phrase about the background, e.g. `a pale background`."""
    word = rng.choice(BRIGHTNESS_WORDS[grade(scene, "brightness")])
    return f"{with_article(word)} {rng.choice(('background', 'background', 'backdrop'))}"


def position_phrase(rng: random.Random, scene: Scene) -> str:
    """Return a phrase about the position, e.g. `on the far left`."""
    return rng.choice(POSITION_WORDS[grade(scene, "position")])


def sentence(text: str) -> str:
    """Return a text with a capital letter and a full stop."""
    return f"{text[0].upper()}{text[1:]}."
