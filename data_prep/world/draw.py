"""Draw scenes: outlines of the shapes, all of area 1, and pictures with smooth edges."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from data_prep.world.scene import Scene

Points = NDArray[np.float64]
OVERSAMPLING = 4
# Every picture is lit warm from the left and cool from the right: this is added to red, green and blue at the left edge, and
# subtracted at the right edge. Like perspective in photographs, it lets a small convolutional tower see positions.
WARM = np.array([22.0, 0.0, -22.0])


def _regular(corners: int, radius: float = 1.0, turn: float = 0.0) -> Points:
    angles = np.arange(corners) * 2 * np.pi / corners + turn - np.pi / 2
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _star() -> Points:
    return np.stack([_regular(5), _regular(5, 0.45, np.pi / 5)], axis=1).reshape(-1, 2)


def _cross() -> Points:
    arm = 0.36
    corner = [(-arm, -1), (arm, -1), (arm, -arm)]
    quarter = np.array([[0.0, 1.0], [-1.0, 0.0]])
    turns = [np.linalg.matrix_power(quarter, times) for times in range(4)]
    return np.concatenate([np.array(corner) @ turn for turn in turns])


def _crescent() -> Points:
    """Return a disc minus a smaller disc that covers its right side."""
    radius, shift = 0.78, 0.5
    x = (1 - radius**2 + shift**2) / (2 * shift)
    outer_end, inner_end = np.arccos(x), np.arctan2(np.sqrt(1 - x**2), x - shift)
    outer = np.linspace(outer_end, 2 * np.pi - outer_end, 48)
    inner = np.linspace(2 * np.pi - inner_end, inner_end, 40)
    return np.concatenate(
        [
            np.stack([np.cos(outer), np.sin(outer)], axis=1),
            np.stack([shift + radius * np.cos(inner), radius * np.sin(inner)], axis=1),
        ]
    )


def polygon_area(points: Points) -> float:
    """Return the area of a polygon (shoelace formula)."""
    x, y = points[:, 0], points[:, 1]
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


@cache
def outline(shape: str) -> tuple[Points, Points | None]:
    """Return the outer polygon and the hole, if any, of a shape of area 1 with its bounding box centred on the origin."""
    outer, hole = {
        "circle": (_regular(48), None),
        "square": (_regular(4, turn=np.pi / 4), None),
        "triangle": (_regular(3), None),
        "star": (_star(), None),
        "cross": (_cross(), None),
        "diamond": (_regular(4) * (1.0, 1.32), None),
        "ring": (_regular(48), _regular(40, 0.55)),
        "crescent": (_crescent(), None),
    }[shape]
    scale = 1 / np.sqrt(polygon_area(outer) - (0.0 if hole is None else polygon_area(hole)))
    middle = (outer.max(axis=0) + outer.min(axis=0)) / 2
    return (outer - middle) * scale, None if hole is None else (hole - middle) * scale


@cache
def extent(shape: str) -> tuple[float, float]:
    """Return width and height of a shape of area 1."""
    outer, _ = outline(shape)
    width, height = outer.max(axis=0) - outer.min(axis=0)
    return float(width), float(height)


def coverage(scene: Scene, side: int) -> NDArray[np.float64]:
    """Return the share of each pixel that shapes cover, (side, side), 0 to 1."""
    fine = side * OVERSAMPLING
    mask = Image.new("L", (fine, fine), 0)
    pen = ImageDraw.Draw(mask)
    outer, hole = outline(scene.shape)
    for centre in scene.centres:
        for points, fill in ((outer, 255), (hole, 0)):
            if points is not None:
                # pixel centres are at whole numbers in Pillow, at halves here
                place = (points * scene.size + centre) * fine - 0.5
                pen.polygon([(float(x), float(y)) for x, y in place], fill=fill)
    return np.asarray(mask.reduce(OVERSAMPLING), dtype=np.float64) / 255


def draw(scene: Scene, colour: tuple[int, int, int], side: int) -> Image.Image:
    """Draw a scene, (side, side) RGB."""
    covered = coverage(scene, side)[..., None]
    paint = np.clip(np.array(colour, dtype=np.float64) + scene.tint, 0, 255)
    pixels = (1 - covered) * (scene.brightness * 255) + covered * paint
    across = np.linspace(1, -1, side)[None, :, None]
    return Image.fromarray(np.rint(np.clip(pixels + across * WARM, 0, 255)).astype(np.uint8))
