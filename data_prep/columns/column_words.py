"""Words for the columns of a table: the YAML file, its checks, and what is said of two values of a column."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from bisect import bisect
from itertools import pairwise
from math import inf
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeFloat,
    PositiveFloat,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from data_prep.files import Row
from pcclip.roles import has_roles

SLIGHTLY = ("slightly", "slightly", "somewhat")
MUCH = ("much", "far", "clearly")
NOT_QUITE, NOT, NOT_NEARLY = "is not quite as", "is not as", "is not nearly as"


def _without_roles(text: str) -> str:
    """Return the text without surrounding white space.

    Raises:
        ValueError: It is empty, or names an image.
    """
    if not text.strip():
        raise ValueError("must not be empty")
    if has_roles(text):
        raise ValueError('must not contain "first" or "second", which name the images')
    return text.strip()


Value = TypeVar("Value", bool, float, str)
Phrase = Annotated[str, AfterValidator(_without_roles)]
Phrases = Annotated[list[Phrase], Field(min_length=1)]
# Tables in text form hold numbers and flags as texts, so these are parsed.
NUMBER, FLAG = TypeAdapter(FiniteFloat), TypeAdapter(bool)
CATEGORY = TypeAdapter(Annotated[Phrase, Field(coerce_numbers_to_str=True)])


class Said(NamedTuple):
    """What a text says of image X against image Y in one column."""

    of_x: str
    """Predicate of X: `is far larger`."""
    of_y: str
    """Predicate of Y: `is smaller`."""
    link: str = ""
    """Word that joins `of_x` to the image that it is compared with: `than`, `as`, or empty without a comparison."""
    adjective_x: str = ""
    """`far larger`, if it can stand before a noun."""
    adjective_y: str = ""
    """`smaller`."""


class Column(BaseModel, ABC, Generic[Value]):
    """Words for a column."""

    model_config = ConfigDict(extra="forbid", strict=True)

    weight: PositiveFloat = 1.0
    """Relative frequency with which texts mention the column, among the columns in which two images differ."""

    @abstractmethod
    def parse(self, cell: object) -> Value:
        """Return the value of a cell.

        Raises:
            ValueError: The cell has no such value.
        """

    @abstractmethod
    def differ(self, x: Value, y: Value) -> bool:
        """Return whether two values differ enough to be mentioned."""

    @abstractmethod
    def said(self, rng: random.Random, x: Value, y: Value) -> Said:
        """Return what is said of X against Y, whose values differ enough."""


class Level(BaseModel):
    """Words for values from `at_least` up to the next level."""

    model_config = ConfigDict(extra="forbid", strict=True)

    at_least: FiniteFloat
    words: Phrases


class Number(Column[float]):
    """Words for a column of numbers, for comparatives such as "far larger"."""

    kind: Literal["number"]
    compare: Literal["ratio", "difference"] = "difference"
    """Whether `least`, `slight` and `strong` are ratios of the larger to the smaller value, or differences."""
    least: PositiveFloat
    """Smallest ratio or difference that is mentioned."""
    slight: PositiveFloat | None = None
    """Largest ratio or difference that is called slight. Null: none."""
    strong: PositiveFloat | None = None
    """Smallest ratio or difference that is called "much" or "far". Null: none."""
    more: Phrases
    """Comparatives for the larger value, which can follow "is" and precede a noun: `larger`, `more expensive`."""
    less: Phrases
    """Comparatives for the smaller value."""
    adjectives: list[Phrase] = []
    """Adjectives for "is not as ... as", of the smaller value: `large`."""
    levels: list[Level] = []
    """Adjectives for ranges of values, lowest first: `tiny`, `huge`. Used if two values are in different ranges."""

    @model_validator(mode="after")
    def _ordered(self) -> Number:
        if self.compare == "ratio" and self.least <= 1:
            raise ValueError("`least` must be above 1, as a ratio")
        if not self.least <= (self.slight or self.least) <= (self.strong or inf):
            raise ValueError("`least`, `slight` and `strong` must be in this order")
        if any(low.at_least >= high.at_least for low, high in pairwise(self.levels)):
            raise ValueError("`levels` must have rising values of `at_least`")
        return self

    def parse(self, cell: object) -> float:
        value = NUMBER.validate_python(cell)
        if self.compare == "ratio" and value < 0:
            raise ValueError(f"a ratio needs numbers that are not negative, found {value:g}")
        return value

    def differ(self, x: float, y: float) -> bool:
        return self._amount(x, y) >= self.least

    def said(self, rng: random.Random, x: float, y: float) -> Said:
        levels = self._level(x), self._level(y)
        if levels[0] != levels[1] and None not in levels and rng.random() < 0.3:
            high, low = (rng.choice(level.words) for level in levels if level is not None)
            return Said(f"is {high}", f"is {low}", "", high, low)
        amount = self._amount(x, y)
        slight, strong = amount <= (self.slight or 0), amount >= (self.strong or inf)
        graded = rng.random() < 0.5
        if x < y and self.adjectives and rng.random() < 0.25:
            negation = NOT_NEARLY if graded and strong else NOT_QUITE if graded and slight else NOT
            return Said(f"{negation} {rng.choice(self.adjectives)}", f"is {rng.choice(self.more)}", "as")
        word = rng.choice(self.more if x > y else self.less)
        other = rng.choice(self.less if x > y else self.more)
        if graded and (slight or strong):
            word = f"{rng.choice(MUCH if strong else SLIGHTLY)} {word}"
        return Said(f"is {word}", f"is {other}", "than", word, other)

    def _amount(self, x: float, y: float) -> float:
        low, high = sorted((x, y))
        if self.compare == "difference":
            return high - low
        return high / low if low else inf if high else 1.0

    def _level(self, value: float) -> Level | None:
        place = bisect([level.at_least for level in self.levels], value)
        return self.levels[place - 1] if place else None


class Flag(Column[bool]):
    """Words for a column of flags: 0 and 1, or true and false."""

    kind: Literal["flag"]
    positive: Phrases
    """Predicates of images with the flag: `is alive`, `can be eaten`."""
    negative: Phrases
    """Predicates of images without the flag. Include negations: `is not alive`, `cannot be eaten`."""

    def parse(self, cell: object) -> bool:
        return FLAG.validate_python(cell)

    def differ(self, x: bool, y: bool) -> bool:
        return x != y

    def said(self, rng: random.Random, x: bool, y: bool) -> Said:
        of_x, of_y = (rng.choice(self.positive if value else self.negative) for value in (x, y))
        return Said(of_x, of_y)


class Category(Column[str]):
    """Words for a column of categories."""

    kind: Literal["category"]
    predicates: Annotated[list[Annotated[Phrase, Field(pattern=r"\{\}")]], Field(min_length=1)]
    """Predicates with `{}` for the category: `is made of {}`. `a(n)` becomes "a" or "an"."""
    values: dict[str, Phrase] = {}
    """Words for categories whose names in the table are not words: `{ss: stainless steel}`."""

    def parse(self, cell: object) -> str:
        value = CATEGORY.validate_python(cell)
        return self.values.get(value, value)

    def differ(self, x: str, y: str) -> bool:
        return x != y

    def said(self, rng: random.Random, x: str, y: str) -> Said:
        predicate = rng.choice(self.predicates)
        return Said(predicate.replace("{}", x), predicate.replace("{}", y))


class TableWords(BaseModel):
    """Content of the YAML file with the words for a table's columns."""

    model_config = ConfigDict(extra="forbid", strict=True)

    nouns: Phrases = ["object", "thing"]
    """Nouns in the singular for what the images show: `product`, `chair`."""
    columns_per_text: Annotated[list[NonNegativeFloat], Field(min_length=1)] = [6.0, 3.0, 1.0]
    """How often a text mentions one column, two, three, ..., as relative frequencies."""
    second_before_first: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of sentences that speak of the second image before the first. A low share is learned in fewer steps, but the model
    then reads these words less surely (docs/concepts/roles.md)."""
    columns: Annotated[dict[str, Annotated[Number | Flag | Category, Field(discriminator="kind")]], Field(min_length=1)]
    """Words for each column, by its name in the `attributes` of a row of `captions.jsonl`, or else in the row itself."""

    @model_validator(mode="after")
    def _some_columns(self) -> TableWords:
        if not any(self.columns_per_text):
            raise ValueError("`columns_per_text` must have a number above 0")
        return self

    def values(self, row: Row, where: str) -> dict[str, Any]:
        """Return the values of the columns in a row. Missing and empty cells are left out.

        Raises:
            ValueError: A cell has a value that does not fit its column.
        """
        found: dict[str, Any] = {}
        nested = row.get("attributes")
        cells = row | nested if isinstance(nested, dict) else row
        for name, column in self.columns.items():
            cell = cells.get(name)
            if cell is None or cell == "":
                continue
            try:
                found[name] = column.parse(cell)
            except ValidationError as error:
                problem = f"{error.errors()[0]['msg']}, found {cell!r}"
                raise ValueError(f"{where}: column `{name}` ({column.kind}): {problem}") from error
            except ValueError as error:
                raise ValueError(f"{where}: column `{name}` ({column.kind}): {error}") from error
        return found
