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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import MISSING

from data_prep.files import write_jsonl
from data_prep.lock import locks_output
from data_prep.manifest import Manifest, files_below
from data_prep.shapes import Picture, draw_all
from data_prep.world.choices import ATTRIBUTES, caption_choice
from data_prep.world.class_texts import WorldClass, comparatives, description
from data_prep.world.scene import COLOURS, SHAPES, TRAINING, UNSEEN, random_scene
from data_prep.world.words import with_article
from pcclip.atomic import atomic_folder

STEP_VERSION = 3
# Part of each picture's seed; `shapes` has 0 to 5.
GRID, PROBE = 6, 7
SHAPE_CLASSES = [WorldClass(shape) for shape in SHAPES]
GRID_CLASSES = [WorldClass(shape, colour) for shape in SHAPES for colour in COLOURS]
UNSEEN_CLASSES = [WorldClass(shape, colour) for shape, colour in UNSEEN]


@dataclass
class Options:
    """Options of the step.

    Attributes:
        output: The folder to write.
        seed: Seed of all scenes and texts.
        per_combination: Pictures of each combination of shape and colour.
        probe: Pictures of each shape to fit linear probes on.
        workers: Processes that draw; the output does not depend on it.
    """

    output: str = MISSING
    seed: int = 0
    per_combination: int = 10
    probe: int = 100
    workers: int = 2


@locks_output
def run(options: Options) -> None:
    """Write pictures and texts into `output`.

    Raises:
        ValueError: A number is less than one.
    """
    for name in ("per_combination", "probe", "workers"):
        if getattr(options, name) < 1:
            raise ValueError(f"shapes_eval.{name} must be at least 1, found {getattr(options, name)}")
    output = Path(options.output)
    names = ("seed", "per_combination", "probe")
    manifest = Manifest("shapes_eval", STEP_VERSION, {}, {name: getattr(options, name) for name in names})
    if manifest.matches(output):
        print(f"{output} is up to date")
        return
    grid = _pictures(options.seed, GRID, "grid", GRID_CLASSES, options.per_combination)
    probe = _pictures(options.seed, PROBE, "probe", SHAPE_CLASSES, options.probe)
    rng = random.Random(options.seed)
    with atomic_folder(output) as folder:
        draw_all(folder, grid + probe, options.workers)
        write_jsonl(folder / "classes.jsonl", (_class_row(of) for of in GRID_CLASSES))
        write_jsonl(folder / "shapes.jsonl", (_class_row(of) for of in SHAPE_CLASSES))
        write_jsonl(folder / "comparatives_shape.jsonl", comparatives(rng, SHAPE_CLASSES))
        write_jsonl(folder / "comparatives_unseen.jsonl", comparatives(rng, UNSEEN_CLASSES))
        edits = write_jsonl(folder / "edits.jsonl", (edit for picture in grid for edit in _edits(rng, picture)))
        _write_choices(rng, folder / "choices", grid)
    manifest.write(output, {"grid": len(grid), "probe": len(probe), "edits": edits}, files=files_below(output))
    print(f"{output}: {len(grid) + len(probe)} pictures, {edits} edits")


def _pictures(seed: int, part: int, folder: str, classes: list[WorldClass], each: int) -> list[Picture]:
    pictures = []
    for number, of in enumerate(classes):
        # A shape's pictures have the colours that it has in training, as everywhere else.
        combinations = [(of.shape, of.colour)] if of.colour else [pair for pair in TRAINING if pair[0] == of.shape]
        for index in range(each):
            scene = random_scene(np.random.default_rng((seed, part, number, index)), combinations)
            pictures.append(Picture(scene, f"{folder}/{of.name}/{index:04d}.png"))
    return pictures


def _class_row(of: WorldClass) -> dict[str, Any]:
    colour = {"colour": of.colour} if of.colour else {}
    return {"name": of.name, "shape": of.shape, **colour, "description": description(of)}


def _edits(rng: random.Random, picture: Picture) -> list[dict[str, str]]:
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


def _write_choices(rng: random.Random, folder: Path, pictures: list[Picture]) -> None:
    folder.mkdir()
    for attribute in ATTRIBUTES:
        rows = {}
        for number, picture in enumerate(pictures):
            caption, negative = caption_choice(rng, picture.scene, attribute)
            filename = picture.file.removeprefix("grid/")
            rows[str(number)] = {"filename": filename, "caption": caption, "negative_caption": negative}
        text = json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
        (folder / f"replace_{attribute}.json").write_text(text, encoding="utf-8")
