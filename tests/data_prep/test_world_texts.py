"""The world's texts: true in direction, and test sentences that are new in frame but not in words."""

import random
import re
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from data_prep.world import vocabulary
from data_prep.world.captioner import captions
from data_prep.world.describer import describe, difference, noticeable
from data_prep.world.scene import COLOURS, SHAPES, TRAINING, Scene, random_scene
from data_prep.world.wordings import SECOND_LEADS, WORDINGS, attribute_texts

UP = {
    "size": ["larger", "bigger"],
    "count": ["more", "higher", "greater"],
    "brightness": ["brighter", "lighter"],
    "position": ["further to the right", "further right", "more to the right", "closer to the right edge"],
}
DOWN = {
    "size": ["smaller", "tinier"],
    "count": ["fewer", "lower"],
    "brightness": ["darker", "dimmer"],
    "position": ["further to the left", "further left", "more to the left", "closer to the left edge"],
}
DEGREES = ["much", "clearly", "far", "slightly", "somewhat", "many"]
# "more to the right" speaks of position, so it must be tried before "more".
PHRASES = sorted(
    (
        (phrase, attribute, sign)
        for table, sign in ((UP, 1), (DOWN, -1))
        for attribute in table
        for phrase in table[attribute]
    ),
    key=lambda entry: -len(entry[0]),
)


def scenes(number: int, seed: int = 0) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [random_scene(rng, TRAINING) for _ in range(number)]


def look_the_same(first: Scene, second: Scene) -> bool:
    """Whether nobody would name a difference between two scenes."""
    return (
        (first.shape, first.colour, first.count) == (second.shape, second.colour, second.count)
        and max(first.size, second.size) / min(first.size, second.size) < 1.12
        and abs(first.brightness - second.brightness) < 0.12
        and abs(first.position - second.position) < 0.12
    )


def described(number: int, seed: int) -> Iterator[tuple[Scene, Scene, str]]:
    """Pairs with their texts; one pair in some thousand looks the same, and exactly those have no text."""
    rng = random.Random(seed)
    for first, second in zip(scenes(number, 2 * seed), scenes(number, 2 * seed + 1), strict=True):
        text = describe(rng, first, second)
        assert (text is None) == look_the_same(first, second), (text, first, second)
        if text is not None:
            yield first, second, text


def statements(text: str) -> list[str]:
    """Statements of a text; those joined by ", and" are taken apart when each names the picture that it speaks of."""
    found: list[str] = []
    for statement in re.split(r"[.;]\s*", text.lower()):
        halves = statement.split(", and ")
        found += halves if all(re.search("first|second", half) for half in halves) else [statement]
    return [statement for statement in found if statement]


STANDARD = re.compile(
    r"(?:than(?: that| those| the one| they do| it does)?(?: in| of)?|compared (?:with|to)|relative to|next to|from) "
    r"the (first|second)"
)


def parts(statement: str) -> list[str]:
    """The parts of a statement, each naming one picture; "larger stars and a darker background" belongs together."""
    merged: list[str] = []
    for part in re.split(r",? (?:while|whereas|but|and) |, |^while |^where ", statement):
        if part and merged and not (re.search("first|second", part) and re.search("first|second", merged[-1])):
            merged[-1] += " " + part
        elif part:
            merged.append(part)
    return merged


def claims(text: str) -> list[tuple[str, int]]:
    """Read a text independently of how it was written: (attribute, +1 if the first image is said to have more, else -1).

    A comparative speaks of the picture named in its own part of the sentence; the picture after "than", "compared
    with", "next to" or "from" is the standard it is compared against, so it speaks of the other one.
    """
    found = []
    for statement in statements(text):
        standards = STANDARD.findall(statement)
        assert len(standards) < 2, f"more than one standard in {statement!r}"
        for part in [statement] if standards else parts(statement):
            if standards:
                owner = "second" if standards == ["first"] else "first"
            else:
                named = re.search("first|second", part)
                owner = named[0] if named else ""
            rest = part
            for phrase, attribute, sign in PHRASES:
                for _ in re.findall(rf"\b{phrase}\b", rest):
                    assert owner, f"nobody owns {phrase!r} in {text!r}"
                    found.append((attribute, sign if owner == "first" else -sign))
                rest = re.sub(rf"\b{phrase}\b", " ", rest)
    return found


def test_comparatives_are_true() -> None:
    seen = 0
    for first, second, text in described(2500, 0):
        for attribute, sign in claims(text):
            assert sign * difference(first, second, attribute) > 0, (text, first, second)
            assert attribute in noticeable(first, second)
            seen += 1
    assert seen > 2000


def test_comparatives_speak_of_either_picture() -> None:
    standards = Counter(
        standard
        for _, _, text in described(2500, 3)
        for statement in statements(text)
        for standard in STANDARD.findall(statement)
    )
    # The picture compared against is the other one. With one way alone, a model need not read "first" and "second".
    assert 0.7 < standards["second"] / standards.total() < 0.8


def test_exchanging_first_and_second_makes_it_true_of_the_reversed_pair() -> None:
    for first, second, exchanged in described(500, 4):
        for marks in (("first", "third"), ("second", "first"), ("third", "second")):
            exchanged = exchanged.replace(*marks)
        for attribute, sign in claims(exchanged):
            assert sign * difference(second, first, attribute) > 0


GRADES = {
    "size": vocabulary.SIZE_WORDS,
    "brightness": vocabulary.BRIGHTNESS_WORDS,
    "position": vocabulary.POSITION_WORDS,
}
BOUNDS = {"size": (0.11, 0.26), "brightness": (0.05, 0.95), "position": (0.0, 1.0)}


def views(part: str) -> dict[str, object]:
    """What a part without comparatives says a picture has: names, numbers, and grades as 0 to 4."""
    found: dict[str, object] = {}
    part = re.sub("(?:first|second) one", "", part)  # there "one" is no number
    for attribute, grades in GRADES.items():
        phrases = sorted(
            ((phrase, rank) for rank, grade in enumerate(grades) for phrase in grade), key=lambda e: -len(e[0])
        )
        for phrase, rank in phrases:
            if re.search(rf"\b{phrase}\b", part):
                found[attribute] = rank
                part = re.sub(rf"\b{phrase}\b", " ", part)
    tokens = re.findall("[a-z]+", part)
    for token in tokens:
        if token in COLOURS:
            found["colour"] = token
        if (shape := next((shape for shape in SHAPES if token in (shape, vocabulary.plural(shape))), None)) is not None:
            found["shape"] = shape
    if number := re.search(
        r"\b(two|three|four)\b|\b(?:one|single) (?:[a-z-]+ )*?(?:shape|" + "|".join(SHAPES) + ")", part
    ):
        found["count"] = vocabulary.NUMERALS.index(number[1] or "one")
    return found


def test_contrasts_are_true_of_the_picture_they_name() -> None:
    seen: dict[str, int] = {}
    for first, second, text in described(2500, 1):
        # A frame with ";" has its two pictures in two statements, so parts are taken over a whole sentence.
        for sentence in text.lower().rstrip(".").split(". "):
            if claims(sentence) or ("; " in sentence and not sentence.startswith("in the")):
                continue
            said = {}
            for part in (part for statement in statements(sentence) for part in parts(statement)):
                (mark,) = re.findall("first|second", part)
                said[mark] = views(part)
                scene = first if mark == "first" else second
                for attribute, value in said[mark].items():
                    expected = getattr(scene, attribute)
                    if attribute in GRADES:  # grades are fifths of the range, or nearly
                        low, high = BOUNDS[attribute]
                        assert abs((expected - low) / (high - low) - (float(str(value)) + 0.5) / 5) < 0.15, (
                            text,
                            scene,
                        )
                    else:
                        assert value == expected, (text, scene)
                    seen[attribute] = seen.get(attribute, 0) + 1
            assert set(said) == {"first", "second"}, text
            both = said["first"].keys() & said["second"].keys() - {"shape"}
            assert all(said["first"][name] != said["second"][name] for name in both), text
    assert min(seen[name] for name in ("size", "count", "brightness", "position", "shape", "colour")) > 80, seen


def test_every_text_names_a_picture_and_is_clean() -> None:
    for _, _, text in described(2000, 2):
        assert re.search("first|second", text)
        assert text[0].isupper()
        assert text.endswith(".")
        assert not re.search(
            r"[<>{}_]|  |\ba (?:orange|almost)|\ban [^aeio]|\b(?:a|single) (?:[a-z-]+ )?(?:circles|stars|crosses|shapes)\b",
            text,
        ), text


# ---- test sentences ----

SYNONYMS = {"picture": "image", "backdrop": "background", "contains": "has", "shows": "has"}
ATTRIBUTE_WORDS = {
    *(word for phrase, _, _ in PHRASES for word in phrase.split() if word not in ("to", "the")),
    *DEGREES,
    *vocabulary.NUMERALS,
    *SHAPES,
    *map(vocabulary.plural, SHAPES),
    *COLOURS,
    *(
        word
        for grades in (vocabulary.SIZE_WORDS, vocabulary.BRIGHTNESS_WORDS)
        for grade in grades
        for entry in grade
        for word in entry.split()
    ),
}


def frame(text: str) -> str:
    """A text with attribute words, "first" and "second" masked and close synonyms made one."""
    text = text.lower()
    for phrase, _, _ in PHRASES:
        text = re.sub(rf"\b{phrase}\b", "*", text)
    tokens = [SYNONYMS.get(token, token) for token in re.findall(r"[a-z-]+|\*", text)]
    masked = [
        "#" if token in ("first", "second") else "*" if token in ATTRIBUTE_WORDS - {"one"} else token
        for token in tokens
    ]
    return re.sub(r"\*( \*)+", "*", " ".join(masked))


@pytest.fixture(scope="module")
def training_texts() -> list[str]:
    rng = random.Random(0)
    firsts, seconds = scenes(7000, 6), scenes(7000, 7)
    differences = [describe(rng, first, second) for first, second in zip(firsts, seconds, strict=True)]
    written = [caption for scene in firsts[:1500] for caption in captions(rng, scene, 5)]
    return [text for text in differences if text is not None] + written


def test_words_of_test_sentences_occur_in_training(training_texts: list[str]) -> None:
    known = {word for text in training_texts for word in re.findall("[a-z-]+", text.lower())}
    for texts in [*attribute_texts(WORDINGS).values(), *attribute_texts(SECOND_LEADS).values()]:
        for wording in texts["wordings"]:
            for text in wording.values():
                assert set(re.findall("[a-z-]+", text.lower())) <= known, text


def test_frames_of_test_sentences_do_not_occur_in_training(training_texts: list[str]) -> None:
    trained = {f" {frame(statement)} " for text in training_texts for statement in re.split("[.;]", text)}
    joined = "|".join(sorted(trained))
    for texts in [*attribute_texts(WORDINGS).values(), *attribute_texts(SECOND_LEADS).values()]:
        for wording in texts["wordings"]:
            for text in wording.values():
                for statement in (half for half in text.split(";") if "first" in half):
                    assert f" {frame(statement)} " not in joined, text  # not even as a part of a longer sentence


@pytest.mark.parametrize(("given", "least", "leader"), [(WORDINGS, 6, "first"), (SECOND_LEADS, 2, "second")])
def test_test_sentences_say_what_they_should(
    given: dict[str, tuple[tuple[str, str, str], ...]], least: int, leader: str
) -> None:
    texts = {attribute: content["wordings"] for attribute, content in attribute_texts(given).items()}
    assert set(texts) == {"size", "count", "brightness", "position"}
    for attribute, wordings in texts.items():
        assert len(wordings) >= least
        assert len({frame(wording["text"]) for wording in wordings}) == len(wordings)
        for wording in wordings:
            for text, sign in ((wording["text"], 1), (wording["reverse"], -1)):
                assert re.findall("first|second", text)[0] == leader
                assert set(claims(text)) == {(attribute, sign)}, text
