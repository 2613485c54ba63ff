"""Difference texts about the values of a table's columns: sentence frames, and how they are chosen and filled."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.articles import with_articles
from data_prep.columns.column_words import TableWords
from data_prep.files import Row, read_jsonl
from pcclip.validation import read_yaml

Values = Mapping[str, Any]

# {x} and {y} name the images, and {noun} what they show. X is mentioned first, or Y.
# Frames of predicates: {p} is said of X, {q} of Y.
BOTH = (
    "the {noun} in {x} {p}, while the one in {y} {q}",
    "the {noun} in {x} {p}, whereas the {noun} in {y} {q}",
    "the {noun} in {x} {p}, but the one in {y} {q}",
    "the {noun} in {x} {p}; the one in {y} {q}",
    "the {noun} in {x} {p}, and the {noun} in {y} {q}",
    "the {noun} in {x} {p}, the one in {y} {q}",
    "while the {noun} in {x} {p}, the one in {y} {q}",
    "in {x} the {noun} {p}; in {y} it {q}",
    "what {x} shows {p}, whereas what {y} shows {q}",
    "of the two, the {noun} in {x} {p} and the one in {y} {q}",
)
# Frames of noun phrases: {thing} is in X, {other} in Y.
THINGS = (
    "{x} shows {thing}, while {y} shows {other}",
    "{x} shows {thing}, whereas {y} shows {other}",
    "{x} shows {thing}, {y} {other}",
    "{x} is of {thing}, {y} of {other}",
    "{x} has {thing}, but {y} has {other}",
    "while {x} shows {thing}, {y} shows {other}",
    "in {x} there is {thing}; in {y} there is {other}",
    "there is {thing} in {x}, but {other} in {y}",
    "{thing} is shown in {x}, while {other} is shown in {y}",
    "{thing} can be seen in {x}, whereas {y} shows {other}",
)
# Frames that speak of X only. Without a comparison:
UNLIKE = (
    "unlike the {noun} in {y}, the one in {x} {p}",
    "the {noun} in {x} {p}, unlike the one in {y}",
    "in contrast to the {noun} in {y}, the one in {x} {p}",
    "it is the {noun} in {x} that {p}, not the one in {y}",
    "{x} shows {thing}, unlike {y}",
    "unlike {y}, {x} shows {thing}",
)
# With a comparison:
COMPARED = (
    "compared with the {noun} in {y}, the one in {x} {p}",
    "the {noun} in {x} {p}, compared with the one in {y}",
    "next to the {noun} in {y}, the one in {x} {p}",
    "compared to {y}, {x} shows {thing}",
    "of the two, it is the {noun} in {x} that {p}, compared with the one in {y}",
)
# With one comparison and nothing else:
THAN = (
    "the {noun} in {x} {p} {link} the one in {y}",
    "the {noun} in {x} {p} {link} that in {y}",
    "what {x} shows {p} {link} what {y} shows",
    "{x} shows {thing} {link} the one in {y}",
    "there is {thing} in {x} {link} in {y}",
    "in {x} there is {thing} {link} in {y}",
)
# What may come before any frame.
OPENINGS = (
    "comparing the two, ",
    "side by side, ",
    "in this pair, ",
    "there is a difference: ",
    "as one can see, ",
    "between the two images, ",
    "when both pictures are compared, ",
    "these are two different photos: ",
)
# Names of the image that is mentioned first, and of the other.
IMAGES = (
    ("image", "image"),
    ("image", ""),
    ("picture", "picture"),
    ("picture", ""),
    ("photo", "photo"),
    ("photo", ""),
    ("", ""),
    ("", ""),  # twice: drawn twice as often
)


class TableTexts:
    """Writes difference texts about the columns of a table.

    Args:
        words: YAML file of the words for the columns.
        captions: The `captions.jsonl` with the columns.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: The words are invalid, a cell does not fit its column, or a column has no value in any row.
    """

    def __init__(self, words: str | Path, captions: Path) -> None:
        self._words = read_yaml(TableWords, words, "words for the columns")
        empty = set(self._words.columns)
        for number, row in read_jsonl(captions, {"id": str}):
            empty.difference_update(self._words.values(row, f"{captions}, line {number}"))
        if empty:
            raise ValueError(
                f"{captions}: no row has a value in the column `{min(empty)}`, which {words} names; "
                "remove it there, or fill the column"
            )

    def __call__(self, seed: int, pair_id: str, first: Row, second: Row) -> tuple[str, str] | None:
        """Return texts in both directions. None if the images differ in no column.

        The texts depend only on the seed, the pair and the words.
        """
        a, b = (self._words.values(row, f"image {row['id']!r}") for row in (first, second))
        rng = random.Random(f"{seed}/{pair_id}")
        differing = [
            name
            for name, column in self._words.columns.items()
            if name in a and name in b and column.differ(a[name], b[name])
        ]
        return (self._text(rng, differing, a, b), self._text(rng, differing, b, a)) if differing else None

    def _text(self, rng: random.Random, differing: Sequence[str], first: Values, second: Values) -> str:
        columns, frequencies = self._words.columns, self._words.columns_per_text
        # Weighted sampling without replacement.
        keys = {name: rng.random() ** (1 / columns[name].weight) for name in differing}
        (count,) = rng.choices(range(1, len(frequencies) + 1), frequencies)
        chosen = sorted(differing, key=keys.__getitem__, reverse=True)[:count]
        sentences = [[name] for name in chosen] if rng.random() < 0.3 else [chosen]
        return " ".join(self._sentence(rng, names, first, second) for names in sentences)

    def _sentence(self, rng: random.Random, names: Sequence[str], first: Values, second: Values) -> str:
        """Write a sentence about all of some columns. It speaks of image X against image Y, which are drawn."""
        swapped = rng.random() < self._words.second_before_first
        x, y = (second, first) if swapped else (first, second)
        said = [self._words.columns[name].said(rng, x[name], y[name]) for name in names]
        linked = [each.link for each in said if each.link]
        one_sided = THAN + COMPARED if linked and len(said) == 1 else COMPARED if linked else UNLIKE
        frame = rng.choice(rng.choices((BOTH, THINGS, one_sided), (3, 3, 4))[0])
        noun = rng.choice(self._words.nouns)
        sides = ("second", "first") if swapped else ("first", "second")
        names_of = rng.choice(IMAGES)
        x_name, y_name = names_of if frame.index("{x}") < frame.index("{y}") else names_of[::-1]
        text = with_articles(
            frame.format(
                noun=noun,
                x=f"the {sides[0]} {x_name}".strip(),
                y=f"the {sides[1]} {y_name}".strip(),
                p=_listed([each.of_x for each in said]),
                q=_listed([each.of_y for each in said]),
                thing=_thing(noun, [(each.of_x, each.adjective_x) for each in said]),
                other=_thing("", [(each.of_y, each.adjective_y) for each in said]),
                link="".join(linked),
            )
        )
        if rng.random() < 0.25:
            text = f"{rng.choice(OPENINGS)}{text}"
        return f"{text[0].upper()}{text[1:]}."


def _thing(noun: str, said: Sequence[tuple[str, str]]) -> str:
    """Return a noun phrase from predicates and adjectives: `a larger object that can be eaten`.

    Without a noun, it refers to an earlier one: `one that is alive`.
    """
    adjective = next((word for _, word in said if word), "")
    clauses = [predicate for predicate, word in said if not word or word != adjective]
    head = " ".join(filter(None, ("a(n)" if noun or adjective else "", adjective, noun or "one")))
    return f"{head} that {_listed(clauses)}" if clauses else head


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
