"""The world's caption writer. Like people, it names some of the attributes, in varied words."""

import random
from dataclasses import replace

from data_prep.world.scene import Scene
from data_prep.world.vocabulary import background_phrase, noun_phrase, position_phrase, sentence

# Probability that a caption names an attribute.
NAMED = {"shape": 0.9, "colour": 0.7, "count": 0.7, "size": 0.9, "brightness": 0.9, "position": 0.65}
# Standard deviations of perceived values, half a grade: people do not agree where "dark" ends and "grey" begins. With sharp
# bounds, embeddings of ever larger shapes lie on an arc, on which no direction ranks the largest and the smallest.
PERCEIVED = {"size": 0.015, "brightness": 0.1, "position": 0.09}

PLAIN = (
    "{shapes}",
    "{shapes}",
    "a picture of {shapes}",
    "an image of {shapes}",
    "a drawing of {shapes}",
    "a picture with {shapes}",
    "the picture shows {shapes}",
    "the image contains {shapes}",
    "{shapes} can be seen",
    "you can see {shapes} in this picture",
    "we see {shapes}",
)
PLACED = (
    "{shapes} {place}",
    "{shapes} {place}",
    "a picture of {shapes} {place}",
    "{place}, {shapes}",
    "the image shows {shapes} {place}",
    "{shapes}, placed {place}",
    "{place} you can see {shapes}",
    "a drawing that has {shapes} {place}",
    "we see {shapes} {place} of the picture",
)
GROUNDED = (
    "{shapes} on {ground}",
    "{shapes} on {ground}",
    "{shapes} against {ground}",
    "{shapes} in front of {ground}",
    "a picture of {shapes} with {ground}",
    "an image of {shapes} on {ground}",
    "{ground} with {shapes}",
    "on {ground}, {shapes}",
    "the picture has {ground} and shows {shapes}",
)
PLACED_AND_GROUNDED = (
    "{shapes} {place} on {ground}",
    "{shapes} {place}, on {ground}",
    "on {ground}, {shapes} {place}",
    "a picture of {shapes} {place} against {ground}",
    "{place}, {shapes} in front of {ground}",
    "the image shows {shapes} {place} and has {ground}",
    "{shapes} on {ground}, {place}",
)


def caption(rng: random.Random, scene: Scene) -> str:
    """Write one caption of a scene."""
    named = {attribute for attribute, share in NAMED.items() if rng.random() < share}
    if not named:
        named = {"shape"}
    frames = {
        (False, False): PLAIN,
        (True, False): PLACED,
        (False, True): GROUNDED,
        (True, True): PLACED_AND_GROUNDED,
    }["position" in named, "brightness" in named]
    perceived = {name: getattr(scene, name) + rng.gauss(0, spread) for name, spread in PERCEIVED.items()}
    seen = replace(scene, **perceived)
    text = rng.choice(frames).format(
        shapes=noun_phrase(rng, seen, named),
        place=position_phrase(rng, seen),
        ground=background_phrase(rng, seen),
    )
    return sentence(text) if rng.random() < 0.6 else text


def captions(rng: random.Random, scene: Scene, number: int) -> list[str]:
    """Write several captions of a scene, all different."""
    written: dict[str, None] = {}
    while len(written) < number:
        written[caption(rng, scene)] = None
    return list(written)
