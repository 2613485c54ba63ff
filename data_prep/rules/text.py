"""Rules about one text. Each returns what it found, or None when the text may stay."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from operator import eq

from data_prep.rules.words import SIDES, WORDS_KEPT, means_both, plain, tokens_of, word_set, words_of

_MARKUP = re.compile(
    r"[*`{}|]|</?[A-Za-z][^<>]{0,60}>|&[a-z]{2,6};|^\s*(?:[-\u2022#>]|\d{1,2}[.)])\s|\]\(|https?://|\\[nrtu\"]|\w_\w|==|\$\$",
    re.MULTILINE,
)
_MARKUP_TOKENS = frozenset("*`{}|<&\\=$]:#\u2022>")  # every pattern but that of a list item needs one of these
_ITEM = re.compile(r"\s*(?:-|\d{1,2}[.)])\s")
_LOOP_IN_WORD = re.compile(r"(\w)\1{5,}|(\w{2,6}?)\2{3,}")
LONG_WORD = 6  # shorter ones hold no loop
_without_loop: set[str] = set()  # words that were looked into: they come again and again
_NOT_FOR_READING = ("Cc", "Cs", "Co", "Cn")  # control, half characters, private use, unassigned
NGRAM = 6  # words; right texts may say "than in the second image" of several things
_ASCII_NO_LETTERS = bytes(byte for byte in range(128) if not chr(byte).isalpha())
_CLOSING = "\"'\u201d\u2019\u00bb)]"
# What no sentence ends with. "A" is a vitamin, and "in" may end a relative clause.
_OPEN = frozenset("a an the The and or while whereas but its their".split())  # noqa: SIM905
_SENTENCE_END = re.compile(r"[.!?]+(?:\s+|$)")


def empty(text: str) -> str | None:
    """Nothing but white space."""
    return None if text.strip() else "no text"


def non_text(text: str, scripts: Sequence[str], min_letters: float) -> str | None:
    """Control characters, letters of another script, or too few letters.

    Args:
        text: The text.
        scripts: Scripts that letters may come from, as Unicode names begin ("LATIN", "CYRILLIC", "CJK"); none: all.
        min_letters: Least share of letters among what is not white space.
    """
    if not text.isascii() or not text.isprintable():
        for character in text:
            if (
                unicodedata.category(character) in _NOT_FOR_READING and character not in "\n\r\t"
            ) or character == "\ufffd":
                return f"character U+{ord(character):04X}"
            if scripts and character.isalpha() and not unicodedata.name(character, "").startswith(tuple(scripts)):
                return f"letter {character!r} ({unicodedata.name(character, 'unnamed')})"
    letters = len(text.encode().translate(None, _ASCII_NO_LETTERS)) if text.isascii() else sum(map(str.isalpha, text))
    if letters >= min_letters * len(text):
        return None
    share = letters / max(len(text) - sum(map(str.isspace, text)), 1)
    return f"{share:.0%} letters" if share < min_letters else None


def markup(text: str) -> str | None:
    """Code or markup: Markdown, HTML, braces, escapes, links, list items, names with underscores."""
    if _MARKUP_TOKENS.isdisjoint(word_set(text)) and "_" not in text and "\n" not in text and not _ITEM.match(text):
        return None
    found = _MARKUP.search(text)
    return repr(found.group()) if found else None


def repetition(text: str) -> str | None:
    """A loop: six words three times, a sentence twice, a word four times running, or a run of the same characters."""
    tokens = tokens_of(text)
    if not _without_loop.issuperset(word_set(text)):
        for word in tokens:
            if len(word) >= LONG_WORD and (found := _LOOP_IN_WORD.search(word)):
                return repr(found.group()[:40])
        if len(_without_loop) < WORDS_KEPT:
            _without_loop.update(tokens)
    if len(tokens) - len(word_set(text)) < 3:
        return None
    pairs_again = len(tokens) - 1 - len(set(pairwise(tokens)))
    if pairs_again >= 2 and any(map(eq, tokens, tokens[1:])):
        for four in zip(tokens, tokens[1:], tokens[2:], tokens[3:], strict=False):
            if len(set(four)) == 1:
                return repr(" ".join(four))
    # As many pairs of words come again where six words come three times.
    if pairs_again >= NGRAM:
        words = words_of(text)
        gram, times = Counter(zip(*(words[start:] for start in range(NGRAM)), strict=False)).most_common(1)[0]
        if times > 2:
            return f"{' '.join(gram)!r} {times} times"
    if text.count(".") + text.count("!") + text.count("?") < 2:
        return None
    sentences = [part for part in _SENTENCE_END.split(plain(text)) if part]
    if len(set(sentences)) < len(sentences):
        sentence, times = Counter(sentences).most_common(1)[0]
        return f"{sentence!r} {times} times"
    return None


def too_short(text: str, min_words: int, min_characters: int) -> str | None:
    """Fewer words or characters than asked for."""
    words = len(text.split(None, min_words))
    if words < min_words:
        return f"{words} words"
    return f"{len(text)} characters" if len(text) < min_characters else None


def truncated(text: str) -> str | None:
    """No end: no full stop, or a comma or an article before it."""
    body = text.rstrip(_CLOSING)
    ended = text.rstrip(".!?")
    last = ended.rsplit(None, 1)[-1] if ended else ""
    ended_well = body.endswith((".", "!", "?")) or text.endswith(tuple(_CLOSING[:-2]))
    if ended_well and last not in _OPEN and not last.endswith((",", ";", ":", "-", "\u2013", "\u2014")):
        return None
    return f"ends with {text[-30:]!r}"


def mention(text: str, wanted: str) -> str | None:
    """No mention of an image.

    Args:
        text: The text.
        wanted: `both` images (a word like "both" or "than" stands in for one of them), or at least `one`.
    """
    words = word_set(text)
    sides = [side for side in SIDES if side in words]
    if not sides:
        return "neither image"
    if wanted == "both" and len(sides) < 2 and not means_both(text):
        return f"only the {sides[0]} image"
    return None
