"""Rules about one text. Each returns what it found, or None when the text may stay."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from operator import eq

from data_prep.rules.words import SIDES, means_both, plain, words_of

_CHAT = re.compile(
    r"\b(?:as an ai\b|as a (?:large )?language model|as a text-based|i cannot\b|i can't\b|i can not\b|i'm sorry|i am sorry"
    r"|i apologi[sz]e|i'm unable|i am unable|i'm not able|i am not able|i'm afraid|i do not have|i don't have|i hope\b"
    r"|i'd be happy|i would be happy|happy to help|let me know\b|feel free to\b|please provide|could you (?:please )?provide"
    r"|you(?:'ve| have) (?:not )?provided|i see that you|i need more|as requested|as you requested)"
    r"|^(?:sure|certainly|sorry|unfortunately|okay|thank you|thanks)\b(?=\s*(?:[,.!:]|i\b|here\b|for\b|$))"
)
_MARKUP = re.compile(
    r"[*`{}|]|</?[A-Za-z][^<>]{0,60}>|&[a-z]{2,6};|^\s*(?:[-\u2022#>]|\d{1,2}[.)])\s|\]\(|https?://|\\[nrtu\"]|\w_\w|==|\$\$",
    re.MULTILINE,
)
_RUN = re.compile(r"(\S)\1{5,}")
_LOOP_IN_WORD = re.compile(r"(\w{1,6}?)\1{3,}")
LONG_WORD = 12  # shorter ones are not looked into
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_NOT_FOR_READING = ("Cc", "Cs", "Co", "Cn")  # control, half characters, private use, unassigned
NGRAM = 6  # words; right texts may say "than in the second image" of several things
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
    if not text.isascii() or _CONTROL.search(text):
        for character in text:
            if (
                unicodedata.category(character) in _NOT_FOR_READING and character not in "\n\r\t"
            ) or character == "\ufffd":
                return f"character U+{ord(character):04X}"
            if scripts and character.isalpha() and not unicodedata.name(character, "").startswith(tuple(scripts)):
                return f"letter {character!r} ({unicodedata.name(character, 'unnamed')})"
    share = sum(map(str.isalpha, text)) / max(len("".join(text.split())), 1)
    return f"{share:.0%} letters" if share < min_letters else None


def markup(text: str) -> str | None:
    """Code or markup: Markdown, HTML, braces, escapes, links, list items, names with underscores."""
    found = _MARKUP.search(text)
    return repr(found.group()) if found else None


def chat(text: str) -> str | None:
    """A refusal, or talk to the reader."""
    found = _CHAT.search(plain(text))
    return repr(found.group()) if found else None


def leakage(text: str, phrases: Collection[str]) -> str | None:
    """A phrase of the prompt, in whole words."""
    lowered = plain(text)
    for phrase in phrases:
        if phrase.lower() in lowered and re.search(rf"(?<!\w){re.escape(phrase.lower())}(?!\w)", lowered):
            return repr(phrase)
    return None


def repetition(text: str) -> str | None:
    """A loop: six words three times, a sentence twice, a word four times running, or a run of the same characters."""
    words = words_of(text)
    for found in (_RUN.search(text), *(_LOOP_IN_WORD.search(word) for word in words if len(word) >= LONG_WORD)):
        if found:
            return repr(found.group()[:40])
    repeated = len(words) - len(set(words))
    if repeated < 3:
        return None
    if any(map(eq, words, words[1:])):
        for four in zip(words, words[1:], words[2:], words[3:], strict=False):
            if len(set(four)) == 1:
                return repr(" ".join(four))
    if repeated > NGRAM:  # fewer cannot make three
        gram, times = Counter(zip(*(words[start:] for start in range(NGRAM)), strict=False)).most_common(1)[0]
        if times > 2:
            return f"{' '.join(gram)!r} {times} times"
    sentences = [part for part in _SENTENCE_END.split(plain(text)) if part]
    if len(set(sentences)) < len(sentences):
        sentence, times = Counter(sentences).most_common(1)[0]
        return f"{sentence!r} {times} times"
    return None


def too_short(text: str, min_words: int, min_characters: int) -> str | None:
    """Fewer words or characters than asked for."""
    words = len(text.split())
    if words < min_words:
        return f"{words} words"
    return f"{len(text)} characters" if len(text) < min_characters else None


def mention(text: str, wanted: str) -> str | None:
    """No mention of an image.

    Args:
        text: The text.
        wanted: `both` images (a word like "both" or "than" stands in for one of them), or at least `one`.
    """
    words = words_of(text)
    sides = [side for side in SIDES if side in words]
    if not sides:
        return "neither image"
    if wanted == "both" and len(sides) < 2 and not means_both(text):
        return f"only the {sides[0]} image"
    return None
