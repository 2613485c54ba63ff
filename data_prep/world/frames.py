"""Sentence frames of the world's describer.

`<X>` and `<Y>` stand for the two pictures. The comparative speaks of `<X>`. Fields of frames about a graded attribute:

    {thing}, {thing_is}, {thing_appears}  larger stars, are, appear (or another verb)
    {opposite}, {opposite_is}, ...  the same of <Y>: smaller stars, are
    {described}, {other}       stars that are larger; of <Y>: stars that are smaller
    {singled}, {singled_lie}   the larger stars, lie
    {subject}                  stars, number of stars, background
    {common}, {those}          stars, those in <X> are larger: what both pictures have, and a clause that refers to it
    {word}, {opposite_word}    larger, smaller
    {is}, {looks}, {gets}, {that}, {it}, {does}  in the number of the subject
"""

import random

# A statement about <X>, and the ending that names the other picture.
Statements = tuple[tuple[str, str], ...]
THINGS: Statements = (
    ("<X> has {thing}", "than <Y>"),
    ("<X> shows {thing}", "than <Y>"),
    ("<X> contains {thing}", "than <Y>"),
    ("<X> shows {described}", "than <Y>"),
    ("there {thing_is} {thing} in <X>", "than in <Y>"),
    ("in <X> there {thing_is} {thing}", "than in <Y>"),
    ("you can see {thing} in <X>", "than in <Y>"),
)
THING_FIRST: Statements = (
    ("{thing} can be seen in <X>", "than in <Y>"),
    ("{thing} can be found in <X>", "than in <Y>"),
    ("{thing} {thing_appears} in <X>", "than in <Y>"),
    ("{thing} {thing_appears} in <X>", "than in <Y>"),  # twice, since its verb varies
)
STATES: Statements = (
    ("the {subject} in <X> {is} {word}", "than {that} in <Y>"),
    ("the {subject} of <X> {looks} {word}", "than {that} of <Y>"),
    ("the {subject} {is} {word} in <X>", "than in <Y>"),
    ("in <X> the {subject} {looks} {word}", "than {it} {does} in <Y>"),
)
REFERENCES = ("next to <Y>", "relative to <Y>", "compared to <Y>", "compared with <Y>")
SINGLED = (
    "of the two, <X> has {singled}",
    "<X> is the one with {singled}",
    "of the two pictures, it is <X> that has {singled}",
    "looking at both pictures, it is <X> that shows {singled}",
    "<X> is where {singled} {singled_lie}",
    "it is {singled} that <X> shows",
)
CONTRASTS = ("<1>, while <2>", "<1>, whereas <2>", "<1>, but <2>", "<1>, and <2>", "<1>; <2>", "while <1>, <2>")
# Fields of a statement about <X>, and those of the opposite statement about <Y>.
OPPOSITES = {"<X>": "<Y>", "{thing": "{opposite", "{described": "{other", "{word": "{opposite_word"}
COMMON = (
    "both pictures show {common}, but <S>",
    "there {common_is} {common} in both, and <S>",
    "each of the two has {common}; <S>",
    "both pictures show {common}; {those}",
    "there {common_is} {common} in both, but {those}",
)
CHANGE = "from <Y> to <X> the {subject} {gets} {word}"


def graded(rng: random.Random, attribute: str) -> str:
    """Return a frame about one graded attribute."""
    statements = THINGS[:4] + STATES if attribute == "position" else THINGS + THING_FIRST + STATES
    kinds = {"than": 0.28, "reference": 0.22, "contrast": 0.24, "singled": 0.14, "common": 0.07, "change": 0.05}
    (kind,) = rng.choices(list(kinds), list(kinds.values()))
    if kind == "contrast" and attribute != "position" and rng.random() < 0.6:
        # Teaches that in "larger stars appear in <X>; smaller stars appear in <Y>" the smaller ones are not in <X>.
        statements = THING_FIRST
    statement, ending = rng.choice(statements)
    if kind == "than":
        return f"{statement} {ending}"
    if kind == "reference":
        return _with_reference(rng, statement)
    if kind == "contrast":
        return _contrast(rng, statement, rng.choice(((statement, ending), rng.choice(statements)))[0])
    if kind == "common":
        return rng.choice(COMMON).replace("<S>", rng.choice((f"{statement} {ending}", statement)))
    return rng.choice(SINGLED) if kind == "singled" else CHANGE


def _with_reference(rng: random.Random, statement: str) -> str:
    """Name the other picture before, after or within a statement."""
    place = rng.choice(("before", "after", "within") if statement.startswith("<X> ") else ("before", "after"))
    if place == "before":
        return f"{rng.choice(REFERENCES)}, {statement}"
    if place == "after":
        return f"{statement} {rng.choice(REFERENCES)}"
    # "next to <Y>" never stands there, since a test sentence has it in this place.
    return statement.replace("<X>", f"<X>, {rng.choice(REFERENCES[1:])},")


def _contrast(rng: random.Random, statement: str, other: str) -> str:
    """Join a statement about <X> and the opposite statement about <Y>, in either order."""
    for of_x, of_y in OPPOSITES.items():
        other = other.replace(of_x, of_y)
    one, two = rng.sample((statement, other), 2)
    return rng.choice(CONTRASTS).replace("<1>", one).replace("<2>", two)


# Several things at once about <X>; {things} is e.g. "larger stars and a darker background".
JOINT_THINGS = (
    "<X> has {things} than <Y>",
    "<X> shows {things} than <Y>",
    "compared with <Y>, <X> has {things}",
    "compared to <Y>, there are {things} in <X>",
    "of the two, <X> is the one with {things}",
    "next to <Y>, <X> shows {things}",
    "looking at both pictures, <X> has {things}",
    "in <X> you can see {things} than in <Y>",
)
# {clauses} is e.g. "the stars are larger and the background is darker".
JOINT_CLAUSES = (
    "in <X> {clauses} than in <Y>",
    "compared with <Y>, {clauses} in <X>",
    "{clauses} in <X> than in <Y>",
    "from <Y> to <X>, {clauses}",
    "next to <Y>, {clauses} in <X>",
)
# One thing of each picture: {thing} of <X>, {other} of <Y>.
CROSSED = (
    "<X> has {thing}, while <Y> has {other}",
    "while <X> shows {thing}, <Y> has {other}",
    "<X> has {thing}, but <Y> shows {other}",
    "<X> is the one with {thing}, whereas <Y> is the one with {other}",
    "you can see {thing} in <X>, and {other} in <Y>",
)
# What each picture shows, without comparatives: {this} in <X>, {that} in <Y>.
CONTRAST = (
    "<X> shows {this}, while <Y> shows {that}",
    "<X> has {this}, whereas <Y> has {that}",
    "there {this_are} {this} in <X>, whereas <Y> has {that}",
    "there {this_are} {this} in <X>, but {that} in <Y>",
    "{this} can be seen in <X>, and {that} in <Y>",
    "you can see {this} in <X> and {that} in <Y>",
    "unlike <Y>, which shows {that}, <X> shows {this}",
    "compared with <Y>, which has {that}, <X> has {this}",
    "while <Y> contains {that}, <X> contains {this}",
    "<X> is a picture of {this}, and <Y> of {that}",
    "in <X> we see {this}; in <Y> we see {that}",
    "instead of {that} as in <Y>, <X> has {this}",
    "where <Y> has {that}, <X> has {this}",
    "{this} appear_s in <X>, but {that} appear_t in <Y>",
)
# Only for shapes that differ in colour alone.
COLOURED = (
    "the {shapes} {are} {this} in <X> but {that} in <Y>",
    "the {shapes} in <X> {are} {this}, while {those} in <Y> {are} {that}",
    "the colour of the {shapes} is {this} in <X> and {that} in <Y>",
    "<X> has {this} as the colour of its {own}, <Y> has {that}",
)
