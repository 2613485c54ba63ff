"""Assign the words of a text to the image that they describe, clause by clause."""

from data_prep.rules.words import FILLERS, stem

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
    """Return the stem of a content word, the mark of a word that structures the text, or an empty string."""
    if token in _MARK_OF:
        return _MARK_OF[token]
    if token.endswith("n't"):
        return NEGATION
    stemmed = stem(token)
    return "" if token in FILLERS or stemmed in _VAGUE or not token[0].isalnum() else stemmed


def clauses_of(stems: str) -> list[tuple[str, str]]:
    """Return (image, clause) of the clauses that clearly describe one image, `FIRST` or `SECOND`.

    Segments end at full stops and contrasts ("while", "but", "than"). A segment that names one image describes only that
    image. In other segments, a clause describes the image that it names, else the image named before it. A clause
    before any name describes the image named next.

    Args:
        stems: The stems and marks of a text.
    """
    found: list[tuple[str, str]] = []
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
                while waiting:
                    found.append((side, waiting.pop(0)))
                found.append((side, clause))
            else:
                waiting.clear()
    return found


def said(stems: str) -> tuple[set[str], set[str]]:
    """Return the stems of the words that clearly describe the first and the second image, without negated clauses."""
    first: set[str] = set()
    second: set[str] = set()
    for side, clause in clauses_of(stems):
        if NEGATION not in clause:
            (first if side == FIRST else second).update(clause.split())
    first -= MARKS
    second -= MARKS
    return first, second
