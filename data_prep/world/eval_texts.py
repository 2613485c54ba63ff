"""Evaluation texts of the embedded world: descriptions and comparisons of classes, and true and false captions."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

from data_prep.world.describer import Writer
from data_prep.world.scene import BRIGHTNESSES, COLOURS, MOST, SHAPES, SIZES, TRAINING, Scene
from data_prep.world.vocabulary import background_phrase, grade, noun_phrase, plural, position_phrase, sentence

NAMED = ("shape", "colour", "size", "count")
_RANGES = {"size": SIZES, "brightness": BRIGHTNESSES, "position": (0.0, 1.0)}
TEXTS = 3  # per ordered pair of classes


@dataclass(frozen=True)
class WorldClass:
    """A class: all scenes of one shape, in any colour or in one."""

    shape: str
    colour: str | None = None

    @property
    def name(self) -> str:
        """`star` or `red star`."""
        return " ".join(filter(None, (self.colour, self.shape)))

    @property
    def combinations(self) -> list[tuple[str, str]]:
        """Shapes and colours of its scenes. Without `colour`, these are the training colours of the shape."""
        if self.colour is not None:
            return [(self.shape, self.colour)]
        return [pair for pair in TRAINING if pair[0] == self.shape]

    def scene(self) -> Scene:
        """Return a scene of the class. Scenes of other classes differ in shape and colour only."""
        return Scene(self.shape, self.colour or "red", size=0.18, count=1, brightness=0.5, position=0.5)


def description(of: WorldClass) -> str:
    """Return a sentence about pictures of the class, in the vocabulary of captions."""
    many = " ".join(filter(None, (of.colour, plural(of.shape))))
    return f"You can see one {of.name} and some {many}, small and large, on a dark and on a light background."


def comparatives(rng: random.Random, classes: Sequence[WorldClass]) -> list[dict[str, str]]:
    """Return rows `{"first", "second", "text"}`, `TEXTS` for each ordered pair of classes."""
    return [
        {"first": first.name, "second": second.name, "text": text}
        for first, second in permutations(classes, 2)
        for text in _texts(rng, first, second)
    ]


def _texts(rng: random.Random, first: WorldClass, second: WorldClass) -> list[str]:
    differing = [part for part in ("shape", "colour") if getattr(first, part) != getattr(second, part)]
    writer = Writer(rng, first.scene(), second.scene())
    written: dict[str, None] = {}
    while len(written) < TEXTS:
        written[writer.text(differing)] = None
    return list(written)


def caption_choice(rng: random.Random, scene: Scene, attribute: str) -> tuple[str, str]:
    """Return a caption with all attributes, and the same caption with one attribute wrong.

    The wrong word of a graded attribute is at least two grades away.
    """
    seed = rng.random()  # the same wording in both
    return _caption(random.Random(seed), scene), _caption(random.Random(seed), _other(rng, scene, attribute))


def _other(rng: random.Random, scene: Scene, attribute: str) -> Scene:
    if attribute == "shape":
        return replace(scene, shape=rng.choice([shape for shape in SHAPES if shape != scene.shape]))
    if attribute == "colour":
        return replace(scene, colour=rng.choice([colour for colour in COLOURS if colour != scene.colour]))
    if attribute == "count":
        return replace(scene, count=rng.choice([count for count in range(1, MOST + 1) if count != scene.count]))
    while True:
        value: Any = rng.uniform(*_RANGES[attribute])
        other = replace(scene, **{attribute: value})
        if abs(grade(other, attribute) - grade(scene, attribute)) >= 2:
            return other


def _caption(rng: random.Random, scene: Scene) -> str:
    place, ground = position_phrase(rng, scene), background_phrase(rng, scene)
    return sentence(f"a picture of {noun_phrase(rng, scene, NAMED)} {place} against {ground}")
