"""Rules about the form of one text. Each returns what it found, or None if the text passes."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from data_prep.rules.reading import LOOP_IN_WORD, Text
from data_prep.rules.said import FIRST, MARKS, NEGATION, SECOND, clauses_of
from data_prep.rules.words import SIDES

_MARKUP = re.compile(
    r"[*`{}|]|</?[A-Za-z][^<>]{0,60}>|&[a-z]{2,6};|^\s*(?:[-\u2022#>]|\d{1,2}[.)])\s|\]\(|https?://|\\[nrtu\"]|\w_\w|==|\$\$",
    re.MULTILINE,
)
# MARKUP can match only with one of these tokens, or a word that matches `MARKUP_WORD`.
MARKUP_WORDS = frozenset("*`{}|<&\\=$]:#\u2022>")
MARKUP_WORD = re.compile(r"_|^(?:-|\d{1,2}[.)])$")
_NOT_FOR_READING = ("Cc", "Cs", "Co", "Cn")  # control, half characters, private use, unassigned
MIN_LETTERS = 0.7  # least share of letters among the characters that are not white space
MIN_WORDS, MIN_CHARACTERS = 5, 30
MIN_CONTENT = 2  # minimum number of content words
NGRAM = 6  # words; good texts may repeat shorter phrases, such as "than in the second image"
_ASCII_NO_LETTERS = bytes(byte for byte in range(128) if not chr(byte).isalpha())
_CLOSING_QUOTES = ('"', "'", "\u201d", "\u2019", "\u00bb")
_CLOSING = "".join((*_CLOSING_QUOTES, ")]"))
# Words that end no sentence. Not in the list: "A" (vitamin A), and "in", which may end a relative clause.
_OPEN = frozenset("a an the The and or while whereas but its their".split())  # noqa: SIM905
_SENTENCE_END = re.compile(r"[.!?]+(?:\s+|$)")
# Words that replace the mention of an image: "of the two, the first has more", "the first is the one with more".
_BOTH = re.compile(
    r"\bboth\b(?! (?:of )?(?:his|her|its|their|the )?(?:hands|sides|arms|legs|feet|ends|eyes|ears|knees|directions))"
    r"|\b(?:two|other|each) (?:of the )?(?:images?|pictures?|photos?|photographs?)\b|\bthe other (?:has|is|shows)\b"
)
_IMPLIED = re.compile(r"\b(?:than|of the two|the other|the one)\b")


def non_text(text: Text, scripts: Sequence[str]) -> str | None:
    """Find control characters, letters of another script, or too few letters.

    Args:
        text: The text.
        scripts: Allowed scripts: the first words of Unicode names ("LATIN", "CYRILLIC", "CJK"). Empty: all.
    """
    raw = text.raw
    if not raw.isascii() or not raw.isprintable():
        for character in raw:
            if (
                unicodedata.category(character) in _NOT_FOR_READING and character not in "\n\r\t"
            ) or character == "\ufffd":
                return f"character U+{ord(character):04X}"
            if scripts and character.isalpha() and not unicodedata.name(character, "").startswith(tuple(scripts)):
                return f"letter {character!r} ({unicodedata.name(character, 'unnamed')})"
    letters = len(raw.encode().translate(None, _ASCII_NO_LETTERS)) if raw.isascii() else sum(map(str.isalpha, raw))
    if letters >= MIN_LETTERS * len(raw):
        return None
    share = letters / max(len(raw) - sum(map(str.isspace, raw)), 1)
    return f"{share:.0%} letters" if share < MIN_LETTERS else None


def markup(text: Text) -> str | None:
    """Find code or markup: Markdown, HTML, braces, escapes, links, list items, names with underscores."""
    found = _MARKUP.search(text.raw) if "markup" in text.signs else None
    return repr(found.group()) if found else None


def repetition(text: Text) -> str | None:
    """Find a loop: six words three times, a sentence twice, a word four times in a row, or a run of the same characters."""
    tokens = text.tokens
    if "loop" in text.signs:
        for found in filter(None, map(LOOP_IN_WORD.search, tokens)):
            return repr(found.group()[:40])
    for four in zip(tokens, tokens[1:], tokens[2:], tokens[3:], strict=False):
        if len(set(four)) == 1:
            return repr(" ".join(four))
    words = text.words
    grams = Counter(zip(*(words[start:] for start in range(NGRAM)), strict=False))
    for gram, times in grams.most_common(1):
        if times > 2:
            return f"{' '.join(gram)!r} {times} times"
    if text.raw.count(".") + text.raw.count("!") + text.raw.count("?") < 2 or len(tokens) - len(set(tokens)) < 3:
        return None
    sentences = [part for part in _SENTENCE_END.split(text.plain) if part]
    sentence, times = Counter(sentences).most_common(1)[0]
    return f"{sentence!r} {times} times" if times > 1 else None


def too_short(text: Text) -> str | None:
    """Find a text with too few words or characters."""
    words = len(text.written)
    if words < MIN_WORDS:
        return f"{words} words"
    return f"{len(text.raw)} characters" if len(text.raw) < MIN_CHARACTERS else None


def truncated(text: Text) -> str | None:
    """Find a truncated text: no full stop at the end, or a comma or an article before it."""
    end = text.written[-1]
    last = end.rstrip(".!?") or "".join(text.written[-2:-1])
    ended_well = end.rstrip(_CLOSING).endswith((".", "!", "?")) or end.endswith(_CLOSING_QUOTES)
    if ended_well and last not in _OPEN and not last.endswith((",", ";", ":", "-", "\u2013", "\u2014")):
        return None
    return f"ends with {text.raw[-30:]!r}"


def mention(text: Text, wanted: str) -> str | None:
    """Find an image that is not mentioned.

    Args:
        text: The text.
        wanted: `both` images, or at least `one`. A word like "both" or "than" can replace one mention.
    """
    if text.signs.issuperset(SIDES):
        return None
    side = next((side for side in SIDES if side in text.signs), None)
    if side is None:
        return "neither image"
    if wanted == "one" or _BOTH.search(text.plain) or (text.compares and _IMPLIED.search(text.plain)):
        return None
    return f"only the {side} image"


def one_sided(text: Text) -> str | None:
    """Find an image that is neither described nor compared."""
    if text.compares or all(text.said):
        return None
    clauses = clauses_of(text.stems)
    described = {side: False for side, _ in clauses}
    words = 0
    for side, clause in clauses:
        content = sum(stem not in MARKS for stem in clause.split())
        words += content
        described[side] |= content > 0 or NEGATION in clause
    if words < MIN_CONTENT and len(text.content) < MIN_CONTENT:
        return "nothing of either image"
    bare = next((name for name, side in (("first", FIRST), ("second", SECOND)) if described.get(side) is False), None)
    each_named = all(side in clause for side, clause in clauses)
    return f"nothing of the {bare} image" if bare and each_named else None
