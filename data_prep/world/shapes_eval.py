"""Step `shapes_eval`: what the embedded world's evaluations need besides the folders of the step `shapes`.

The output folder holds::

    grid/<colour shape>/              held-out pictures of every combination of shape and colour
    probe/<shape>/                    pictures to fit linear probes on; `shapes` has those to test on
    classes.jsonl, shapes.jsonl       the classes, with their shape and colour and a description of each
    comparatives_unseen.jsonl, comparatives_shape.jsonl     how two classes differ, in the describer's words
    edits.jsonl                       changes of shape or colour of the grid's pictures, for embedding arithmetic
    choices/replace_<attribute>.json  captions of the grid's pictures, true and false, in SugarCrepe's layout
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from data_prep.files import write_jsonl
from data_prep.manifest import Manifest, files_below
from data_prep.step import Made, OutputStep, Workers, at_least
from data_prep.world.choices import ATTRIBUTES, caption_choice
from data_prep.world.classes import WorldClass, comparatives, description
from data_prep.world.scene import COLOURS, SHAPES, TRAINING, UNSEEN, random_scene
from data_prep.world.shapes import PlannedPicture, draw_all
from data_prep.world.vocabulary import with_article
from pcclip.atomic import atomic_folder

# Part of each picture's seed; `shapes` has 0 to 5.
GRID, PROBE = 6, 7
SHAPE_CLASSES = [WorldClass(shape) for shape in SHAPES]
GRID_CLASSES = [WorldClass(shape, colour) for shape in SHAPES for colour in COLOURS]
UNSEEN_CLASSES = [WorldClass(shape, colour) for shape, colour in UNSEEN]


@dataclass(kw_only=True)
class ShapesEval(Workers, OutputStep):
    """Make what the embedded world's evaluations need besides the folders of the step `shapes`."""

    version: ClassVar[int] = 3

    seed: int = 0
    """Seed of all scenes and texts."""
    per_combination: int = field(default=10, metadata=at_least(1))
    """Pictures of each combination of shape and colour."""
    probe: int = field(default=100, metadata=at_least(1))
    """Pictures of each shape to fit linear probes on."""

    def make(self, manifest: Manifest) -> Made:
        grid = _pictures(self.seed, GRID, "grid", GRID_CLASSES, self.per_combination)
        probe = _pictures(self.seed, PROBE, "probe", SHAPE_CLASSES, self.probe)
        rng = random.Random(self.seed)
        with atomic_folder(self.output) as folder:
            draw_all(folder, grid + probe, self.workers)
            write_jsonl(folder / "classes.jsonl", (_class_row(of) for of in GRID_CLASSES))
            write_jsonl(folder / "shapes.jsonl", (_class_row(of) for of in SHAPE_CLASSES))
            write_jsonl(folder / "comparatives_shape.jsonl", comparatives(rng, SHAPE_CLASSES))
            write_jsonl(folder / "comparatives_unseen.jsonl", comparatives(rng, UNSEEN_CLASSES))
            edits = write_jsonl(folder / "edits.jsonl", (edit for picture in grid for edit in _edits(rng, picture)))
            _write_choices(rng, folder / "choices", grid)
        return Made(
            {"grid": len(grid), "probe": len(probe), "edits": edits},
            files=files_below(Path(self.output)),
            message=f"{len(grid) + len(probe)} pictures, {edits} edits",
        )


def _pictures(seed: int, part: int, folder: str, classes: list[WorldClass], each: int) -> list[PlannedPicture]:
    # A shape's pictures have the colours that it has in training, as everywhere else.
    return [
        PlannedPicture(
            random_scene(
                np.random.default_rng((seed, part, number, index)),
                [(of.shape, of.colour)] if of.colour else [pair for pair in TRAINING if pair[0] == of.shape],
            ),
            f"{folder}/{of.name}/{index:04d}.png",
        )
        for number, of in enumerate(classes)
        for index in range(each)
    ]


def _class_row(of: WorldClass) -> dict[str, Any]:
    colour = {"colour": of.colour} if of.colour else {}
    return {"name": of.name, "shape": of.shape, **colour, "description": description(of)}


def _edits(rng: random.Random, picture: PlannedPicture) -> list[dict[str, str]]:
    """One edit of the colour and one of the shape, to another by lot.

    As in SIMAT, the texts name only what changes; what stays is to come from the picture.
    """
    scene = picture.scene
    colour = rng.choice([colour for colour in COLOURS if colour != scene.colour])
    shape = rng.choice([shape for shape in SHAPES if shape != scene.shape])
    changes = [
        (f"{scene.colour} shape", f"{colour} shape", WorldClass(scene.shape, colour)),
        (scene.shape, shape, WorldClass(shape, scene.colour)),
    ]
    image = picture.file.removeprefix("grid/")
    return [
        {"image": image, "source": with_article(source), "target": with_article(target), "answer": answer.name}
        for source, target, answer in changes
    ]


def _write_choices(rng: random.Random, folder: Path, pictures: list[PlannedPicture]) -> None:
    folder.mkdir()
    for attribute in ATTRIBUTES:
        rows = {}
        for number, picture in enumerate(pictures):
            caption, negative = caption_choice(rng, picture.scene, attribute)
            filename = picture.file.removeprefix("grid/")
            rows[str(number)] = {"filename": filename, "caption": caption, "negative_caption": negative}
        text = json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
        (folder / f"replace_{attribute}.json").write_text(text, encoding="utf-8")
