"""What the rules have in common: the words of a text, and which image it speaks of."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

T = TypeVar("T")
WORDS_KEPT = 1 << 16

_TOKEN = re.compile(r"\w+(?:'\w+)*|[^\w\s]")
_SPACED = [(mark, f" {mark} ") for mark in ".,;:-"]
_COMMON_MARKS = b" \n.,;:-"
_IMAGE = r"(?:image|picture|photograph|photo)"
# Training texts say "first" and "second"; language models say these as well. "In the first image 2 dogs" is none of them.
_NUMBERED = rf"(?<!first )(?<!second ){_IMAGE} #?"
_FIRST = re.compile(rf"\b(?:1st|{_NUMBERED}1|left(?:[- ]hand)? (?:{_IMAGE}|one)|former)\b")
_SECOND = re.compile(rf"\b(?:2nd|{_NUMBERED}2|right(?:[- ]hand)? (?:{_IMAGE}|one)|latter)\b")
_OTHER_NAMES = ("1", "2", "left", "right", "former", "latter")
# What stands in for a second mention: "of the two, the first has more", "the first is the one with more".
_BOTH = re.compile(
    r"\bboth\b(?! (?:of )?(?:his|her|its|their|the )?(?:hands|sides|arms|legs|feet|ends|eyes|ears|knees|directions))"
    r"|\b(?:two|other|each) (?:of the )?(?:images?|pictures?|photos?|photographs?)\b|\bthe other (?:has|is|shows)\b"
)
_IMPLIED = re.compile(r"\b(?:than|of the two|the other|the one)\b")
_NO_COMPARISON = re.compile(r"\b(?:rather|other) than\b")
_QUOTED = re.compile(
    r"""\"[^\"]*\"|\u201c[^\u201d]*\u201d|\u00ab[^\u00bb]*\u00bb
    |(?<!\w)['\u2018](?:[^'\u2018\u2019]|['\u2019](?=\w))+['\u2019](?!\w)""",
    re.VERBOSE,
)
_QUOTES = re.compile("[\"\u201c\u00ab'\u2018]")
_ENDINGS = ("ings", "ing", "ies", "ied", "ers", "ed", "es", "er", "s", "e", "y")

# (scale, words for more, words for less)
_SCALES = (
    ("size", "larger bigger greater huger", "smaller tinier lesser"),
    ("brightness", "brighter lighter paler", "darker dimmer"),
    ("height", "taller higher", "shorter lower"),
    ("length", "longer", ""),
    ("width", "wider broader thicker", "narrower thinner slimmer"),
    ("weight", "heavier", ""),
    ("age", "older", "younger newer"),
    ("nearness", "closer nearer", "farther further"),
    ("warmth", "warmer hotter sunnier", "colder cooler"),
    ("speed", "faster quicker", "slower"),
    ("noise", "louder busier livelier", "quieter calmer emptier"),
    ("number", "more", "fewer less"),
    ("clarity", "sharper clearer", "blurrier hazier"),
)
COMPARATIVES = {  # word: (scale, 1 for more or -1 for less)
    word: (scale, sign)
    for scale, more, less in _SCALES
    for words, sign in ((more, 1), (less, -1))
    for word in words.split()
}
COMPARING = frozenset(COMPARATIVES)

SIDES = ("first", "second")
OTHER = {"first": "second", "second": "first"}
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
    if any(map(text.__contains__, _OTHER_NAMES)):
        text = _SECOND.sub("second", _FIRST.sub("first", text))
    return text


@lru_cache(maxsize=16)
def tokens_of(text: str) -> tuple[str, ...]:
    """Words and punctuation marks of `plain(text)`."""
    text = plain(text)
    if not text.isascii() or not text.encode().translate(None, _COMMON_MARKS).isalnum():
        return tuple(_TOKEN.findall(text))
    for mark, spaced in _SPACED:  # most texts have no others, and splitting is faster than matching
        text = text.replace(mark, spaced)
    return tuple(text.split())


@lru_cache(maxsize=16)
def words_of(text: str) -> tuple[str, ...]:
    """Words of `plain(text)`."""
    return tuple([token for token in tokens_of(text) if token[0].isalnum()])


@lru_cache(maxsize=16)
def word_set(text: str) -> frozenset[str]:
    """Different words and punctuation marks of `plain(text)`."""
    return frozenset(tokens_of(text))


@lru_cache(maxsize=16)
def without_quotes(text: str) -> str:
    """A text without what stands in quotes: words on signs and shirts are not the writer's."""
    return text if _QUOTES.search(text) is None else _QUOTED.sub("", text)


def unquoted(text: str) -> str:
    """`plain(without_quotes(text))`."""
    return plain(without_quotes(text))


def compares(text: str) -> bool:
    """Whether a text holds a comparative such as "brighter", or "than"."""
    words = word_set(text)
    if not COMPARING.isdisjoint(words):
        return True
    return "than" in words and "than" in _NO_COMPARISON.sub("", plain(text))


def means_both(text: str) -> bool:
    """Whether a text that names one image means the other too: "of the two, the first is brighter"."""
    lowered = plain(text)
    if _BOTH.search(lowered) is not None:
        return True
    return _IMPLIED.search(lowered) is not None and compares(text)


class Remembered(dict[str, T]):
    """Results of a function of a word. The same words come again and again, and a look-up is twice as fast as `lru_cache`.

    Args:
        function: The function.
    """

    def __init__(self, function: Callable[[str], T]) -> None:
        self._function = function

    def __missing__(self, word: str) -> T:
        if len(self) > WORDS_KEPT:
            self.clear()
        self[word] = result = self._function(word)
        return result


def stem(word: str) -> str:
    """A word without its ending, roughly: runs, running and runner are run."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            word = word[: -len(ending)]
            break
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word
