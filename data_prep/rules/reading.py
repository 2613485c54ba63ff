"""Read a text once for all rules: its tokens, what it says about each image, and which rules apply to it."""

import re
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property, lru_cache
from itertools import chain
from typing import NamedTuple

from data_prep.rules.said import MARKS, said, stem_or_mark
from data_prep.rules.words import COMPARATIVES, SIDES, WORDS_KEPT

_TOKEN = re.compile(r"\w+(?:'\w+)*|[^\w\s]")
LOOP_IN_WORD = re.compile(r"(\w)\1{5,}|(\w{2,6}?)\2{3,}")
_IMAGE = r"(?:image|picture|photograph|photo)"
# Training texts say "first" and "second"; language models say these as well. "In the first image 2 dogs" is none of them.
_NUMBERED = rf"(?<!first )(?<!second ){_IMAGE} #?"
_FIRST = re.compile(rf"\b(?:1st|{_NUMBERED}1|left(?:[- ]hand)? (?:{_IMAGE}|one)|former)\b")
_SECOND = re.compile(rf"\b(?:2nd|{_NUMBERED}2|right(?:[- ]hand)? (?:{_IMAGE}|one)|latter)\b")
_QUOTED = re.compile(
    r"""\"[^\"]*\"|\u201c[^\u201d]*\u201d|\u00ab[^\u00bb]*\u00bb
    |(?<!\w)['\u2018](?:[^'\u2018\u2019]|['\u2019](?=\w))+['\u2019](?!\w)""",
    re.VERBOSE,
)
_STRAIGHT = str.maketrans("\u2019\u2018\u201c\u201d", "''\"\"")
_NO_COMPARISON = re.compile(r"\b(?:rather|other) than\b")
_OWN_PATTERNS = {
    "renamed": re.compile("[12]|left|right|former|latter", re.IGNORECASE),
    "loop": LOOP_IN_WORD,
}
_LIKE = {"picture": "image", "photo": "image", "photograph": "image", "pictures": "images", "photos": "images"}
_ARTICLES = frozenset(("a", "an", "the"))


def without_quotes(text: str) -> str:
    """Remove quoted parts of a text, such as words on signs and shirts. They are not the writer's words."""
    return _QUOTED.sub("", text)


def tokens_of(text: str) -> list[str]:
    """Return the words and punctuation marks of a text."""
    return _TOKEN.findall(text)


def plain(text: str) -> str:
    """Return a text in lower case, with straight quotes, and the images named "first" and "second"."""
    text = text.lower().translate(_STRAIGHT)
    return _SECOND.sub("second", _FIRST.sub("first", text))


class Word(NamedTuple):
    """Features of a word, including the punctuation around it.

    Attributes:
        tokens: Words and punctuation marks, in lower case.
        signs: See `Text.signs`.
        stems: Stems and marks, with a space after each; see `data_prep.rules.said`.
        alike: Its part of `Text.alike`, with a space after each word.
    """

    tokens: tuple[str, ...]
    signs: frozenset[str]
    stems: str
    alike: str


class Text:
    """Features of a text that the rules use.

    Attributes:
        raw: The text as written, not empty.
        written: Its words with the punctuation around them.
        tokens: Words and punctuation marks of `plain`.
        signs: Names of the rules with trigger words in the text. Also `first` and `second` for the images that it names,
            `comparative`, `than`, and `loop` for a word that consists of repetitions.
        stems: Stems and marks; see `data_prep.rules.said`.
        alike: The text without case, punctuation and articles, and with one word for "image". Near duplicates are texts
            with equal `alike`. The measure is strict because two good texts may differ in a single word.
        compares: Whether the text has a comparative such as "brighter", or "than".
    """

    def __init__(self, raw: str, written: list[str], words: Iterable[Word]) -> None:
        tokens, signs, stems, alike = zip(*words, strict=True)
        self.raw = raw
        self.written = written
        self.tokens: list[str] = list(chain.from_iterable(tokens))
        self.signs: frozenset[str] = frozenset().union(*signs)
        self.stems = "".join(stems)
        self.alike = "".join(alike)
        self.compares = "comparative" in self.signs or (
            "than" in self.signs and "than" in _NO_COMPARISON.sub("", self.plain)
        )

    @cached_property
    def plain(self) -> str:
        """The text in lower case, with straight quotes, and the images named "first" and "second"."""
        return plain(self.raw)

    @cached_property
    def unquoted(self) -> str:
        """The same without quoted parts."""
        return plain(without_quotes(self.raw))

    @cached_property
    def said(self) -> tuple[set[str], set[str]]:
        """Stems of the words that clearly describe the first and the second image, without negated clauses."""
        return said(self.stems)

    @property
    def words(self) -> list[str]:
        """The tokens without punctuation marks."""
        return [token for token in self.tokens if token[0].isalnum()]

    @property
    def content(self) -> frozenset[str]:
        """Return the stems of the content words."""
        return frozenset(self.stems.split()) - MARKS


class Reader:
    """Reader of texts, with a cache of words.

    Args:
        words: Trigger words of each sign.
        patterns: Trigger patterns of signs, searched for in each word with its punctuation.
    """

    def __init__(self, words: Mapping[str, Collection[str]], patterns: Mapping[str, re.Pattern[str]]) -> None:
        own_words = {"comparative": COMPARATIVES, **{word: (word,) for word in (*SIDES, "than")}}
        self._signs: dict[str, set[str]] = {}
        for sign, triggers in {**words, **own_words}.items():
            for word in triggers:
                self._signs.setdefault(word, set()).add(sign)
        self._patterns = {**patterns, **_OWN_PATTERNS}
        self._word = lru_cache(WORDS_KEPT)(self._read_word)

    def read(self, raw: str) -> Text:
        """Read a text that has at least one word."""
        written = raw.split()
        text = Text(raw, written, map(self._word, written))
        return Text(raw, written, map(self._word, text.plain.split())) if "renamed" in text.signs else text

    def _read_word(self, written: str) -> Word:
        lowered = written.lower().translate(_STRAIGHT)
        tokens = tuple(tokens_of(lowered))
        signs = {sign for sign, pattern in self._patterns.items() if pattern.search(lowered)}
        signs = signs.union(*(self._signs.get(token, ()) for token in tokens))
        stems = "".join(f"{found} " for found in map(stem_or_mark, tokens) if found)
        alike = [_LIKE.get(token, token) for token in tokens if token[0].isalnum() and token not in _ARTICLES]
        alike_words = "".join(f"{token} " for token in alike)
        return Word(tokens, frozenset(signs), stems, alike_words)
