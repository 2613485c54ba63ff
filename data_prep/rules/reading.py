"""Read a text once for all rules: its tokens, what it says about each image, and which rules apply to it."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from itertools import chain
from typing import NamedTuple

from data_prep.rules.said import MARKS, said, stem_or_mark
from data_prep.rules.words import COMPARATIVES, SIDES, Remembered

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
    "apostrophe": re.compile("'"),
}
_LIKE = {"picture": "image", "photo": "image", "photograph": "image", "pictures": "images", "photos": "images"}
RENAMED = "~"  # stands among the stems of a word that may name an image in another way
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


def content(stems: str) -> frozenset[str]:
    """Return the stems of content words, without marks."""
    return frozenset(stems.split()) - MARKS


class Word(NamedTuple):
    """Features of a word, including the punctuation around it.

    Attributes:
        tokens: Words and punctuation marks, in lower case.
        signs: See `Text.signs`.
        stems: Stems and marks, with a space after each; see `data_prep.rules.said`.
        alike: Its part of `Text.alike`, with a space after each word.
        size: See `Text.size`.
    """

    tokens: tuple[str, ...]
    signs: frozenset[str]
    stems: str
    alike: str
    size: int


class Text:
    """Features of a text that the rules use.

    Attributes:
        raw: The text as written, not empty.
        written: Its words with the punctuation around them.
        tokens: Words and punctuation marks of `plain`.
        signs: Names of the rules with trigger words in the text. Also `first` and `second` for the images that it names,
            `comparative`, `than`, `apostrophe`, and `loop` for a word that consists of repetitions.
        stems: Stems and marks; see `data_prep.rules.said`.
        alike: The text without case, punctuation and articles, and with one word for "image". Near duplicates are texts
            with equal `alike`. The measure is strict because two good texts may differ in a single word.
        size: Approximate number of tokens for the text tower, counted word by word.
        said: Stems of the words that clearly describe the first and the second image, without negated clauses.
        compares: Whether the text has a comparative such as "brighter", or "than".
    """

    def __init__(self, raw: str, written: list[str], words: Iterable[Word]) -> None:
        tokens, signs, stems, alike, sizes = zip(*words, strict=True)
        self.raw = raw
        self.written = written
        self.tokens: list[str] = list(chain.from_iterable(tokens))
        self.signs: frozenset[str] = frozenset().union(*signs)
        self.stems = "".join(stems)
        self.alike = "".join(alike)
        self.size = sum(sizes)
        self.said = said(self.stems)
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

    @property
    def words(self) -> list[str]:
        """The tokens without punctuation marks."""
        return [token for token in self.tokens if token[0].isalnum()]

    @property
    def content(self) -> frozenset[str]:
        """Return the stems of the content words."""
        return content(self.stems)


class Reader:
    """Reader of texts, with a cache of words.

    Args:
        words: Trigger words of each sign.
        patterns: Trigger patterns of signs, searched for in each word with its punctuation.
        size: Counts the text tower's tokens of a word.
    """

    def __init__(
        self,
        words: Mapping[str, Collection[str]],
        patterns: Mapping[str, re.Pattern[str]],
        size: Callable[[str], int] = len,
    ) -> None:
        own_words = {"comparative": COMPARATIVES, **{word: (word,) for word in (*SIDES, "than")}}
        self._signs: dict[str, set[str]] = {}
        for sign, triggers in {**words, **own_words}.items():
            for word in triggers:
                self._signs.setdefault(word, set()).add(sign)
        self._patterns = {**patterns, **_OWN_PATTERNS}
        self._size = size
        self._words = Remembered(self._word)
        self._content = Remembered(self._content_of_word)

    def read(self, raw: str) -> Text:
        """Read a text that has at least one word."""
        written = raw.split()
        text = Text(raw, written, map(self._words.__getitem__, written))
        if "renamed" in text.signs:
            size = text.size
            text = Text(raw, written, map(self._words.__getitem__, text.plain.split()))
            text.size = size
        return text

    def content(self, raw: str) -> frozenset[str]:
        """Return the stems of the content words in a text. Faster than `read`."""
        found = frozenset().union(*map(self._content.__getitem__, raw.split()))
        if RENAMED in found:
            found = frozenset().union(*map(self._content.__getitem__, plain(raw).split())) - {RENAMED}
        return found

    def _content_of_word(self, written: str) -> frozenset[str]:
        word = self._words[written]
        return content(word.stems) | ({RENAMED} if "renamed" in word.signs else set())

    def _word(self, written: str) -> Word:
        lowered = written.lower().translate(_STRAIGHT)
        tokens = tuple(tokens_of(lowered))
        signs = {sign for sign, pattern in self._patterns.items() if pattern.search(lowered)}
        signs = signs.union(*(self._signs.get(token, ()) for token in tokens))
        stems = "".join(f"{found} " for found in map(stem_or_mark, tokens) if found)
        alike = [_LIKE.get(token, token) for token in tokens if token[0].isalnum() and token not in _ARTICLES]
        alike_words = "".join(f"{token} " for token in alike)
        return Word(tokens, frozenset(signs), stems, alike_words, self._size(written))
