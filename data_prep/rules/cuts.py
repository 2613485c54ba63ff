"""Cuts: functions that remove what a language model adds around a text, such as quotes, a lead-in or a note.

Each cut returns the text, shortened or unchanged. All cuts are repeated until none changes the text, so that nested
additions are removed too.
"""

import re
from collections.abc import Callable
from functools import partial

from data_prep.rules.reading import Text

_AGREEMENT = re.compile(
    r"(?:sure thing|sure|certainly|of course|absolutely|okay|ok|great|no problem|yes|understood|got it)\s*"
    r"(?:[,.!:;\u2014\u2013]+\s*|-\s+|(?=here\b))",
    re.IGNORECASE,
)
_INTRODUCTION = re.compile(
    r"(?:here(?:['\u2019]s| is| are| it is| you go)|below (?:is|are)|the following (?:is|are))\b[^:\n]{0,150}:\s*",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"(?:the )?(?:(?:key |main )?(?:difference|comparison)s?(?: (?:between|of|from)\b[^:.\n]{0,60})?"
    r"|answer|output|response|result|text|sentence|description|first (?:vs\.?|versus|against|to) second)\s*:\s*",
    re.IGNORECASE,
)
# Phrases count only where a sentence begins: a sign in a picture may say "I hope".
_TALK = re.compile(
    r"""(?:^|[.!?:;"'\u201d\u2019)\]]\s+|\n\s*)(?P<talk>[(\[*_]*(?:
        I\ hope\b | Hope\ (?:this|that|it)\b | (?:Please\ )?[Ll]et\ me\ know\b | (?:Please\ )?[Ff]eel\ free\b
        | I(?:'d|\u2019d|\ would)\ be\ happy\b | I(?:'m|\u2019m|\ am)\ happy\ to\b | Is\ there\ anything\ else\b
        | Would\ you\ like\b | Do\ you\ (?:want|need)\b | If\ you\ (?:have|need|want|would)\b
        | Note\ that\b | Please\ note\b
    ))""",
    re.VERBOSE,
)
_TURN = re.compile(
    r"""(?:^|(?<=\s))[(\[*_]*(?:
        N(?:ote|OTE) | Q | Question | Explanation | \#\d+ | Human | User | Assistant | System | Input | Instructions?
    )\s*:""",
    re.VERBOSE,
)
_SPECIAL_TOKEN = re.compile(r"<\|[^<>]{1,40}|</?s>|\[/?INST\]|<(?:eos|bos|pad|end_of_turn|start_of_turn)>")
_QUOTES = {'"': '"', "\u201c": "\u201d", "'": "'", "\u2018": "\u2019", "\u00ab": "\u00bb"}


def special_tokens(text: str) -> str:
    """Cut from a chat template's token, e.g. `<|im_end|>`, to the end. At the beginning, cut only the token."""
    found = _SPECIAL_TOKEN.search(text) if "<" in text or "[" in text else None
    if found is None:
        return text
    return text[: found.start()] if text[: found.start()].strip() else text[found.end() :].lstrip("|>")


def quotes(text: str) -> str:
    """Cut quotes around the whole text, or an unclosed double quote."""
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[-1] not in text[1:-1].replace("'", ""):
        return text[1:-1]
    if text.count('"') == 1 and '"' in (text[:1], text[-1:]):
        return text.strip('"')
    return text


# All cuts except agreement and quotes need one of these tokens. Most texts have none.
TRIGGERS = frozenset(
    [":", "<", "[", '"', "i", "i'd", "i'm", "hope", "let", "feel", "anything", "you", "note", "please"]
)
_AGREEING = frozenset("sure certainly of absolutely okay ok great no yes understood got".split())  # noqa: SIM905


def _beginning(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.match(text)
    return text[found.end() :] if found else text


def _end(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return text[: found.start(found.lastgroup or 0)] if found else text


CUTS: dict[str, Callable[[str], str]] = {
    "special_tokens": special_tokens,
    "agreement": partial(_beginning, _AGREEMENT),  # "Sure!"
    "introduction": partial(_beginning, _INTRODUCTION),  # "Here is the difference:"
    "label": partial(_beginning, _LABEL),  # "Answer:", "Difference between the images:"
    "talk": partial(_end, _TALK),  # "I hope this helps", "Let me know", "Note that"
    "turn": partial(_end, _TURN),  # "Note:", "Q:", "#2:", or another speaker's turn
    "quotes": quotes,
}


def may_cut(text: Text) -> bool:
    """Return whether `cut` can find anything in a text."""
    raw = text.raw
    plain_letters = raw.isascii() and "_" not in raw  # else words may be written in other ways
    return "cut" in text.signs or not plain_letters or raw[0] in _QUOTES or text.tokens[0] in _AGREEING


def cut(text: str) -> tuple[str, list[str]]:
    """Apply all cuts until none changes the text. Return the rest and the names of the cuts that removed something."""
    text = text.strip()
    done: list[str] = []
    while True:
        before = text
        for name, function in CUTS.items():
            shorter = function(text).strip()
            if shorter != text:
                done.append(name)
                text = shorter
        if text == before:
            return text, done
