"""The rule about a text and its reverse: the reverse must exchange the roles of the images.

This is a heuristic with few false alarms: texts that it does not understand pass.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from data_prep.rules.reading import Text
from data_prep.rules.words import COMPARATIVES, FILLERS, OTHER, SIDES, stem

# "further to the right", "closer to the left edge"
_TOWARDS = frozenset(("further", "farther", "more", "closer", "nearer"))
_PLACES = {"right": ("sideways", 1), "left": ("sideways", -1), "top": ("upwards", 1), "bottom": ("upwards", -1)}
_BETWEEN_TOWARDS_AND_PLACE = frozenset(("to", "towards", "toward", "the"))

_STOPS = frozenset(".;!?")
_CONTRASTS = frozenset(("while", "whereas", "but", "unlike", "although", "though", "contrast"))
_CLAUSE_ENDS = (
    _STOPS
    | _CONTRASTS
    | frozenset(",:()\u2013\u2014")
    | {"and", "yet", "where", "as", "with", "when", "who", "which", "that"}
)
_NEGATIONS = frozenset(
    ("not", "no", "never", "without", "instead", "rather", "neither", "nor", "lack", "lacks", "none", "cannot")
)
_OBJECT_ENDS = frozenset(("than", "in", "on", "at", "to", "from", "for", "is", "are", "was", "were", "by", "near"))


# "The first and the second are brighter"
_TOGETHER = re.compile(r"\b(?:first|second)(?: \w+)? and (?:the )?(?:first|second)\b")


class Claim(NamedTuple):
    """A statement that one image has more of something: the scale, and the words for it."""

    scale: str
    about: frozenset[str]
    side: str


def contradiction(text: Text, reverse_text: Text) -> str | None:
    """Find a reverse that contradicts its text.

    The two texts are equal, both say that the same image has more, or both place the same things in the same image.
    """
    same_words = text.alike == reverse_text.alike and text.words == reverse_text.words
    if same_words and set(text.tokens) == set(reverse_text.tokens):
        return "the same text in both directions"
    if "comparative" in text.signs and "comparative" in reverse_text.signs:
        ours, theirs = claims(text), claims(reverse_text)
        for claim in ours:
            same = [other for other in theirs if _same_matter(claim, other)]
            # Skip a scale on which one text says that each image has more.
            if same and all(other.side == claim.side for other in ours + theirs if _same_matter(claim, other)):
                about = " ".join(sorted(claim.about)) or "it"
                return f"both directions say that the {claim.side} has more ({claim.scale} of {about})"
    return _not_exchanged(text, reverse_text)


def claims(text: Text) -> list[Claim]:
    """Return the clear statements with comparatives in a text."""
    found: list[Claim] = []
    if _TOGETHER.search(text.plain):
        return found
    place: list[str] = []
    for part in _split(text.tokens, _CLAUSE_ENDS):
        clause = [*place, *part]
        place = []
        if part[0] == "in" and len(part) <= 4 and any(side in part for side in SIDES):
            place = list(part)  # "In the first image, the dog is larger"
            continue
        places = [index for index, word in enumerate(clause) if word in COMPARATIVES]
        if len(places) != 1 or any(word in _NEGATIONS or word.endswith("n't") for word in clause):
            continue
        claim = _claim(clause, places[0])
        if claim is not None:
            found.append(claim)
    return found


def _claim(clause: Sequence[str], at: int) -> Claim | None:
    scale, sign = COMPARATIVES[clause[at]]
    behind = at + 1
    while clause[at] in _TOWARDS and behind < len(clause) and clause[behind] in _BETWEEN_TOWARDS_AND_PLACE:
        behind += 1
    if clause[at] in _TOWARDS and behind < len(clause) and clause[behind] in _PLACES:
        scale, sign = _PLACES[clause[behind]]
        behind = len(clause)
    side = _owner(clause, at)
    if side is None:
        return None
    about = _content(_until(clause[behind:], _OBJECT_ENDS)) or _content(clause[:at])
    if "number" in clause:
        scale, about = "number", about - {stem("number")}
    return Claim(scale, about, side if sign > 0 else OTHER[side])


def _owner(clause: Sequence[str], at: int) -> str | None:
    """Return the image that the comparative at a position describes."""
    than = clause.index("than", at) if "than" in clause[at:] else len(clause)
    before = [word for word in clause[:than] if word in SIDES]
    after = [word for word in clause[than:] if word in SIDES]
    if than == len(clause):
        return before[0] if len(before) == 1 else None
    if len(after) == 1 and before in ([], [OTHER[after[0]]]):
        return OTHER[after[0]]
    return None


def _same_matter(one: Claim, other: Claim) -> bool:
    return one.scale == other.scale and (one.about == other.about or not one.about.isdisjoint(other.about))


def _not_exchanged(text: Text, reverse_text: Text) -> str | None:
    """Find things that the reverse places in the same image as the text."""
    ours, theirs = text.said, reverse_text.said
    both = (ours[0] & theirs[0], ours[1] & theirs[1])
    if len(both[0]) < 2 or len(both[1]) < 2:
        return None
    stay = (both[0] - ours[1] - theirs[1], both[1] - ours[0] - theirs[0])
    cross = (ours[0] & theirs[1]) | (ours[1] & theirs[0])
    if min(map(len, stay)) >= 2 and sum(map(len, stay)) > 3 * len(cross):
        return f"both directions show {sorted(stay[0])[:4]} in the first and {sorted(stay[1])[:4]} in the second"
    return None


def _split(tokens: Sequence[str], ends: Collection[str]) -> Iterator[Sequence[str]]:
    start = 0
    for index, token in enumerate(tokens):
        if token in ends:
            if index > start:
                yield tokens[start:index]
            start = index + 1
    if start < len(tokens):
        yield tokens[start:]


def _until(words: Sequence[str], ends: Collection[str]) -> Sequence[str]:
    return next((words[:index] for index, word in enumerate(words) if word in ends), words)


def _content(words: Sequence[str]) -> frozenset[str]:
    return frozenset(stem(word) for word in words if word not in FILLERS and word[0].isalnum())
