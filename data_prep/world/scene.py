"""Scenes of the embedded world: their attributes, and random scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_prep.world.draw import extent

SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond", "ring", "crescent")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (218, 28, 36),
    "green": (30, 160, 50),
    "blue": (40, 80, 235),
    "yellow": (245, 215, 20),
    "orange": (245, 130, 15),
    "purple": (140, 45, 190),
    "pink": (250, 125, 190),
    "cyan": (10, 195, 205),
}
# Each shape and each colour occurs twice: only combinations are unseen, and neither shape nor colour alone identifies a class.
UNSEEN = (
    ("circle", "green"),
    ("circle", "cyan"),
    ("square", "pink"),
    ("square", "green"),
    ("triangle", "blue"),
    ("triangle", "pink"),
    ("star", "red"),
    ("star", "blue"),
    ("cross", "yellow"),
    ("cross", "red"),
    ("diamond", "cyan"),
    ("diamond", "purple"),
    ("ring", "purple"),
    ("ring", "orange"),
    ("crescent", "orange"),
    ("crescent", "yellow"),
)
TRAINING = tuple((shape, colour) for shape in SHAPES for colour in COLOURS if (shape, colour) not in UNSEEN)

PICTURE = 64  # side in pixels
SIZES = (0.11, 0.26)  # square root of a shape's area, as a fraction of the picture's side
BRIGHTNESSES = (0.05, 0.95)  # grey level of the background
MOST = 4
ATTRIBUTES = ("shape", "colour", "size", "count", "brightness", "position")
GAP = 1.5 / PICTURE


@dataclass(frozen=True)
class Scene:
    """Content of a picture: 1 to 4 equal shapes on a plain background.

    Attributes:
        shape: One of `SHAPES`.
        colour: One of `COLOURS`.
        size: Square root of the area of one shape, as a fraction of the picture's side.
        count: Number of shapes.
        brightness: Grey level of the background, from 0 (black) to 1 (white).
        position: Horizontal centre of the group of shapes, from 0 (left) to 1 (right).
        centres: Centres (x, y) of the bounding boxes of the shapes, as fractions of the picture's side.
        tint: Small shift of red, green and blue of the colour, in grey levels.
    """

    shape: str
    colour: str
    size: float
    count: int
    brightness: float
    position: float
    centres: tuple[tuple[float, float], ...] = ()
    tint: tuple[int, int, int] = (0, 0, 0)

    def attributes(self) -> dict[str, Any]:
        """Return the attributes that texts may mention."""
        return {name: getattr(self, name) for name in ATTRIBUTES}

    @classmethod
    def from_attributes(cls, attributes: dict[str, Any]) -> Scene:
        """Return a scene with these attributes, without `centres` and `tint`.

        Raises:
            KeyError: An attribute is missing.
        """
        return cls(
            shape=str(attributes["shape"]),
            colour=str(attributes["colour"]),
            size=float(attributes["size"]),
            count=int(attributes["count"]),
            brightness=float(attributes["brightness"]),
            position=float(attributes["position"]),
        )


def random_scene(rng: np.random.Generator, combinations: Sequence[tuple[str, str]]) -> Scene:
    """Return a random scene. Shape and colour are one of `combinations`; all other attributes are independent."""
    shape, colour = combinations[int(rng.integers(len(combinations)))]
    size = float(rng.uniform(*SIZES))
    count = int(rng.integers(1, MOST + 1))
    offsets = _arrange(rng, count, *(side * size for side in extent(shape)))
    half_width = max(abs(x) for x, _ in offsets) + extent(shape)[0] * size / 2
    # Any position at which the group fits: single shapes reach far left and far right. The mean is 0.5 for every group.
    position = round(float(rng.uniform(half_width + 0.01, 0.99 - half_width)), 4)
    return Scene(
        shape=shape,
        colour=colour,
        size=round(size, 4),
        count=count,
        brightness=round(float(rng.uniform(*BRIGHTNESSES)), 4),
        position=position,
        centres=tuple((position + x, y) for x, y in offsets),
        tint=(int(rng.integers(-9, 10)), int(rng.integers(-9, 10)), int(rng.integers(-9, 10))),
    )


def _arrange(rng: np.random.Generator, count: int, width: float, height: float) -> list[tuple[float, float]]:
    """Return centres of `count` boxes that do not touch: x relative to the centre of the group, y absolute.

    Boxes are in random cells of a grid of two columns and two rows (two boxes may share one column), and at a random place
    within the cell.
    """
    one_column = count <= 2 and rng.random() < 0.5
    places = [(column, row) for column in range(1 if one_column else 2) for row in range(2)]
    chosen = [places[index] for index in rng.permutation(len(places))[:count]]
    # The upper bounds keep the whole group within 0.62 of the width and 0.9 of the height.
    cell_width = rng.uniform(width + GAP, max(width + GAP, (0.62 + GAP) / 2))
    cell_height = rng.uniform(height + GAP, (0.9 + GAP) / 2)
    slack_x, slack_y = (cell_width - width - GAP) / 2, (cell_height - height - GAP) / 2
    xs = [column * cell_width + rng.uniform(-slack_x, slack_x) for column, _ in chosen]
    ys = [row * cell_height + rng.uniform(-slack_y, slack_y) for _, row in chosen]
    middle = (min(xs) + max(xs)) / 2
    top = rng.uniform(height / 2 + 0.01, 0.99 - height / 2 - (max(ys) - min(ys))) - min(ys)
    return [(float(x - middle), float(y + top)) for x, y in zip(xs, ys, strict=True)]
