"""Captions of scenes, each with one that is false in a single attribute."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from data_prep.world.scene import BRIGHTNESSES, COLOURS, MOST, SHAPES, SIZES, Scene
from data_prep.world.vocabulary import background_phrase, grade, noun_phrase, position_phrase, sentence

ATTRIBUTES = ("shape", "colour", "size", "count", "brightness", "position")
NAMED = ("shape", "colour", "size", "count")
_RANGES = {"size": SIZES, "brightness": BRIGHTNESSES, "position": (0.0, 1.0)}


def caption_choice(rng: random.Random, scene: Scene, attribute: str) -> tuple[str, str]:
    """A caption that names everything, and the same with another word for one attribute.

    Of graded attributes the other word is at least two grades away, so that it is plainly false.
    """
    seed = rng.random()  # the same wording twice
    return _caption(random.Random(seed), scene), _caption(random.Random(seed), _other(rng, scene, attribute))


def _other(rng: random.Random, scene: Scene, attribute: str) -> Scene:
    if attribute == "shape":
        return replace(scene, shape=rng.choice([shape for shape in SHAPES if shape != scene.shape]))
    if attribute == "colour":
        return replace(scene, colour=rng.choice([colour for colour in COLOURS if colour != scene.colour]))
    if attribute == "count":
        return replace(scene, count=rng.choice([count for count in range(1, MOST + 1) if count != scene.count]))
    while True:
        other = _with(scene, attribute, rng.uniform(*_RANGES[attribute]))
        if abs(grade(other, attribute) - grade(scene, attribute)) >= 2:
            return other


def _with(scene: Scene, attribute: str, value: float) -> Scene:
    changed: dict[str, Any] = {attribute: value}
    return replace(scene, **changed)


def _caption(rng: random.Random, scene: Scene) -> str:
    place, ground = position_phrase(rng, scene), background_phrase(rng, scene)
    return sentence(f"a picture of {noun_phrase(rng, scene, NAMED)} {place} against {ground}")
