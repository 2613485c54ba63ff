"""What a text says of which image, clause by clause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

from data_prep.rules.words import FILLERS, OTHER, SIDES, Remembered, stem, tokens_of

_CONTRASTS = frozenset(
    "while whereas but unlike although though contrast than instead rather compared versus vs yet".split()  # noqa: SIM905
)
_SEGMENT_ENDS = frozenset(".;!?") | _CONTRASTS
_CLAUSE_ENDS = frozenset(",:()\u2013\u2014") | {"and"}
_NEGATIONS = frozenset("not no never without neither nor lacks lack lacking none nobody nothing cannot".split())  # noqa: SIM905
_VAGUE = frozenset(  # words that tell nothing of an image
    map(
        stem,
        """different differ difference differs differing distinct something thing things else way ways several another
        respect various do does did don't doesn't isn't no content contents certain kind sort type item items subject
        subjects object objects element elements aspect aspects whole overall also only just very same similar""".split(),  # noqa: SIM905
    )
)
_CONTENT, _SIDE, _NEGATION, _CLAUSE_END, _SEGMENT_END = range(5)


class Said(NamedTuple):
    """What one clause says of one image.

    Attributes:
        side: `first` or `second`.
        words: Stems of its words of content.
        negated: Whether it says what the image has not.
        named: Whether the clause itself names the image; else the one before it did.
    """

    side: str
    words: list[str]
    negated: bool
    named: bool


def _role(token: str) -> tuple[int, str] | None:
    """What a token does in a clause, and its stem; None: nothing."""
    if token in OTHER:
        return _SIDE, token
    if token in _SEGMENT_ENDS:
        return _SEGMENT_END, ""
    if token in _CLAUSE_ENDS:
        return _CLAUSE_END, ""
    if token in _NEGATIONS or token.endswith("n't"):
        return _NEGATION, ""
    stemmed = stem(token)
    return None if token in FILLERS or stemmed in _VAGUE or not token[0].isalnum() else (_CONTENT, stemmed)


_role_of = Remembered(_role).__getitem__


def content_stems(tokens: Sequence[str]) -> frozenset[str]:
    """Stems of the words of content among tokens."""
    return frozenset([kind[1] for kind in map(_role_of, tokens) if kind is not None and kind[0] == _CONTENT])


_Clause = tuple[list[str], list[str], bool]  # words, sides, whether it is negated


@lru_cache(maxsize=8)
def said(text: str) -> tuple[Said, ...]:
    """What a text says of which image, as far as that is plain to see.

    A segment between stops and contrasts ("while", "but", "than") that names one image speaks of it alone. In one that names
    both, each clause speaks of the image that it names, or else of the one named before it, or after it at the beginning.
    """
    reader = _Reader()
    segment: list[_Clause] = []
    words: list[str] = []
    sides: list[str] = []
    negated = False
    for kind, stemmed in filter(None, map(_role_of, (*tokens_of(text), "."))):
        if kind == _CONTENT:
            words.append(stemmed)
        elif kind == _SIDE:
            sides.append(stemmed)
        elif kind == _NEGATION:
            negated = True
        else:
            if words or sides or negated:
                segment.append((words, sides, negated))
                words, sides, negated = [], [], False
            if kind == _SEGMENT_END and segment:
                reader.read(segment)
                segment = []
    return tuple(reader.said)


class _Reader:
    def __init__(self) -> None:
        self.said: list[Said] = []
        self._side: str | None = None
        self._waiting: list[_Clause] = []

    def read(self, segment: list[_Clause]) -> None:
        """Take in the clauses of a segment."""
        if len(segment) > 1:
            all_words, all_sides, denials = zip(*segment, strict=True)
            if len(set(chain(*all_sides))) == 1:
                segment = [(list(chain(*all_words)), list(chain(*all_sides)), any(denials))]
        for words, named, negated in segment:
            if len(named) > 1 and len(set(named)) > 1:  # "the first and the second": of neither alone
                self._side, self._waiting = None, []
                continue
            if named:
                self._side = named[0]
            if self._side is None:
                self._waiting.append((words, named, negated))
                continue
            for waiting, _, denied in self._waiting:
                self.said.append(Said(self._side, waiting, denied, False))
            self._waiting = []
            self.said.append(Said(self._side, words, negated, bool(named)))


@lru_cache(maxsize=8)
def shown(text: str) -> Mapping[str, Set[str]]:
    """Stems of what a text says each image has; negated clauses are left out."""
    stems: dict[str, set[str]] = {side: set() for side in SIDES}
    for side, words, negated, _ in said(text):
        if not negated:
            stems[side].update(words)
    return stems
