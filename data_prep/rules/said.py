"""Assign the words of a text to the image that they describe, clause by clause."""

from data_prep.rules.words import FILLERS, SIDES, stem

# A text is read as a string of its stems and of these marks, with spaces in between.
FIRST, SECOND, NEGATION, CLAUSE_END, SEGMENT_END = "<", ">", "!", ",", "."
MARKS = frozenset((FIRST, SECOND, NEGATION, CLAUSE_END, SEGMENT_END))

_CONTRASTS = "while whereas but unlike although though contrast than instead rather compared versus vs yet"
_NEGATIONS = "not no never without neither nor lacks lack lacking none nobody nothing cannot"
_MARK_OF = {
    "first": FIRST,
    "second": SECOND,
    **dict.fromkeys([*".;!?", *_CONTRASTS.split()], SEGMENT_END),
    **dict.fromkeys([*",:()\u2013\u2014", "and"], CLAUSE_END),
    **dict.fromkeys(_NEGATIONS.split(), NEGATION),
}
_VAGUE = frozenset(  # words that say nothing specific about an image
    map(
        stem,
        """different differ difference differs differing distinct something thing things else way ways several another
        respect various do does did don't doesn't isn't no content contents certain kind sort type item items subject
        subjects object objects element elements aspect aspects whole overall also only just very same similar""".split(),  # noqa: SIM905
    )
)


def stem_or_mark(token: str) -> str:
    """Return the stem of a word of content, the mark of a word that structures a text, or nothing."""
    if token in _MARK_OF:
        return _MARK_OF[token]
    if token.endswith("n't"):
        return NEGATION
    stemmed = stem(token)
    return "" if token in FILLERS or stemmed in _VAGUE or not token[0].isalnum() else stemmed


class Said:
    """What a text says of each image, as far as that is plain to see.

    A segment between stops and contrasts ("while", "but", "than") that names one image speaks of it alone. In any other, each
    clause speaks of the image that it names, else of the one named before it, or at the beginning after it.

    Args:
        stems: The stems and marks of the text.

    Attributes:
        first: Stems of what the first image shows. Negated clauses are left out.
        second: The same of the second image.
        words: Number of words of content, negated clauses included.
        each_named: Whether each clause itself names its image.
    """

    def __init__(self, stems: str) -> None:
        self.first: set[str] = set()
        self.second: set[str] = set()
        self.words = 0
        self.each_named = True
        self._named = self._described = ""
        side = ""
        waiting: list[str] = []
        for segment in stems.split(SEGMENT_END):
            names_one = (FIRST in segment) != (SECOND in segment)
            for clause in (segment,) if names_one else segment.split(CLAUSE_END):
                if FIRST in clause:
                    side = "" if SECOND in clause else FIRST  # "the first and the second": of neither alone
                elif SECOND in clause:
                    side = SECOND
                elif not clause or clause.isspace():
                    continue
                elif not side:
                    waiting.append(clause)
                    continue
                if side:
                    for earlier in waiting:
                        self._add(side, earlier)
                    self._add(side, clause)
                waiting.clear()
        self.first -= MARKS
        self.second -= MARKS

    @property
    def bare(self) -> str | None:
        """Name of an image that is mentioned but not described, or None."""
        for name, side in zip(SIDES, (FIRST, SECOND), strict=True):
            if side in self._named and side not in self._described:
                return name
        return None

    def _add(self, side: str, clause: str) -> None:
        stems = clause.split()
        marks = clause.count(FIRST) + clause.count(SECOND) + clause.count(NEGATION) + clause.count(CLAUSE_END)
        words = len(stems) - marks
        negated = NEGATION in clause
        self.words += words
        self._named += side
        if side not in clause:
            self.each_named = False
        if words or negated:
            self._described += side
        if not negated:
            (self.first if side == FIRST else self.second).update(stems)
