"""What a scene is, and how one is drawn by lot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
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
# Each shape and each colour twice, so that what is unseen is the combination, and neither the shape nor the colour alone
# tells the unseen classes apart.
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
GAP = 1.5 / PICTURE


@dataclass(frozen=True)
class Scene:
    """One picture's content: 1 to 4 equal shapes on a plain background.

    Attributes:
        shape: One of `SHAPES`.
        colour: One of `COLOURS`.
        size: Square root of one shape's area, as a fraction of the picture's side; the same for all kinds of shape.
        count: How many shapes.
        brightness: Grey level of the background, 0 black to 1 white.
        position: Horizontal centre of the group of shapes, 0 left to 1 right.
        centres: Centres of the shapes' bounding boxes (x, y), as fractions of the picture's side.
        tint: Small shift of the colour's red, green and blue, in grey levels.
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
        """What captions and difference texts may speak of."""
        values = asdict(self)
        return {name: values[name] for name in ("shape", "colour", "size", "count", "brightness", "position")}

    @classmethod
    def from_attributes(cls, attributes: dict[str, Any]) -> Scene:
        """The inverse of `attributes`; where exactly the shapes lie is not known then.

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
    """Draw a scene of one of the shape-colour `combinations`; all other attributes are independent of each other."""
    shape, colour = combinations[int(rng.integers(len(combinations)))]
    size = float(rng.uniform(*SIZES))
    count = int(rng.integers(1, MOST + 1))
    offsets = _arrange(rng, count, *(side * size for side in extent(shape)))
    half_width = max(abs(x) for x, _ in offsets) + extent(shape)[0] * size / 2
    # All that fits is allowed, so that single shapes reach far left and far right; the mean is 0.5 for every group.
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
    """Centres of `count` boxes that do not touch: x relative to the group's centre, y absolute.

    Boxes take random places of a loose grid of two columns and two rows (two may take one column), then move a little
    within their cells.
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
