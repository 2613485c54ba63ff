"""What the describer writes about the world's classes: a sentence on each, and how two of them differ."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

from data_prep.world.describer import Writer
from data_prep.world.scene import Scene
from data_prep.world.vocabulary import plural

TEXTS = 3  # texts on each ordered pair of classes


@dataclass(frozen=True)
class WorldClass:
    """A class: all scenes of one shape, of any colour or of one."""

    shape: str
    colour: str | None = None

    @property
    def name(self) -> str:
        """`star` or `red star`."""
        return " ".join(filter(None, (self.colour, self.shape)))

    def scene(self) -> Scene:
        """A scene of the class, alike in all else to those of other classes."""
        return Scene(self.shape, self.colour or "red", size=0.18, count=1, brightness=0.5, position=0.5)


def description(of: WorldClass) -> str:
    """A sentence on what pictures of the class may show, in the words of captions."""
    many = " ".join(filter(None, (of.colour, plural(of.shape))))
    return f"You can see one {of.name} and some {many}, small and large, on a dark and on a light background."


def comparatives(rng: random.Random, classes: Sequence[WorldClass]) -> list[dict[str, str]]:
    """Rows `{"first", "second", "text"}` for every ordered pair of classes, `TEXTS` of each."""
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
