"""Steps `shapes` and `shapes_eval`: write the embedded world to files, for training and evaluation.

The output folder of `shapes`::

    train/  captions.jsonl, images/     training pictures
    val/    captions.jsonl, images/     held-out pictures for the same steps
    test/   attributes.csv, texts.yaml, images/     held-out pictures, their attributes, and test sentences
    zero_shot/shape/<shape>/, zero_shot/colour/<colour>/     held-out pictures by class
    zero_shot/unseen/<colour shape>/    combinations of colour and shape that occur nowhere else

The output folder of `shapes_eval`::

    grid/<colour shape>/              held-out pictures of all combinations of shape and colour
    probe/<shape>/                    pictures to fit linear probes; the test pictures are those of `shapes`
    classes.jsonl, shapes.jsonl       classes with shape, colour and description
    comparatives_unseen.jsonl, comparatives_shape.jsonl     texts on how two classes differ, by the describer
    edits.jsonl                       changes of shape or colour of the grid's pictures, for embedding arithmetic
    choices/replace_<attribute>.json  true and false captions of the grid's pictures, in SugarCrepe's layout
"""

import csv
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import yaml
from pydantic import NonNegativeInt, PositiveInt
from tqdm import tqdm

from data_prep.files import write_jsonl
from data_prep.manifest import Manifest, files_below
from data_prep.progress import progress
from data_prep.step import Made, OutputStep, Workers
from data_prep.workers import in_order
from data_prep.world.captioner import captions
from data_prep.world.draw import draw
from data_prep.world.eval_texts import WorldClass, caption_choice, comparatives, description
from data_prep.world.scene import ATTRIBUTES, COLOURS, PICTURE, SHAPES, TRAINING, UNSEEN, Scene, random_scene
from data_prep.world.vocabulary import with_article
from data_prep.world.wordings import SECOND_LEADS, WORDINGS, attribute_texts
from pcclip.atomic import atomic_folder

# The index is part of each picture's seed, so the size of one part does not affect the others.
PARTS = ("train", "val", "test", "shape", "colour", "unseen")
# The same for `shapes_eval`; `shapes` uses 0 to 5.
GRID, PROBE = 6, 7
SHAPE_CLASSES = [WorldClass(shape) for shape in SHAPES]
GRID_CLASSES = [WorldClass(shape, colour) for shape in SHAPES for colour in COLOURS]
UNSEEN_CLASSES = [WorldClass(shape, colour) for shape, colour in UNSEEN]
CHUNK = 64  # pictures per task of a worker


@dataclass(kw_only=True)
class Shapes(Workers, OutputStep):
    """Make the embedded world: images, captions and test sentences."""

    version: ClassVar[int] = 5

    seed: int = 0
    """Seed of all scenes and captions."""
    train: NonNegativeInt = 8000
    """Number of training pictures."""
    val: NonNegativeInt = 320
    """Number of validation pictures."""
    test: NonNegativeInt = 400
    """Number of test pictures."""
    per_class: NonNegativeInt = 40
    """Number of pictures of each zero-shot class."""
    captions_per_image: PositiveInt = 5
    """Captions per training and validation picture."""

    def make(self, manifest: Manifest) -> Made:
        parts = plan(self)
        everything = [picture for pictures in parts.values() for picture in pictures]
        with atomic_folder(self.output) as folder:
            draw_all(folder, everything, self.workers)
            for part in ("train", "val"):
                _write_captions(folder / part, parts[part], self)
            _write_test(folder / "test", parts["test"])
        counts = {part: len(pictures) for part, pictures in parts.items()}
        return Made(counts, files=files_below(Path(self.output)), message=f"{len(everything)} pictures")


@dataclass(frozen=True)
class PlannedPicture:
    """A picture to draw: its scene, and its path relative to the output folder."""

    scene: Scene
    file: str


def plan(options: Shapes) -> dict[str, list[PlannedPicture]]:
    """Return all pictures by part."""
    files: dict[str, list[tuple[str, Sequence[tuple[str, str]]]]] = {
        part: [(f"{part}/images/{part}{index:05d}.png", TRAINING) for index in range(getattr(options, part))]
        for part in ("train", "val", "test")
    }
    classes = {
        "shape": {of.name: of.combinations for of in SHAPE_CLASSES},
        "colour": {colour: [pair for pair in TRAINING if pair[1] == colour] for colour in COLOURS},
        "unseen": {of.name: of.combinations for of in UNSEEN_CLASSES},
    }
    for part, combinations_of in classes.items():
        files[part] = [
            (f"zero_shot/{part}/{name}/{index:04d}.png", combinations)
            for name, combinations in combinations_of.items()
            for index in range(options.per_class)
        ]
    return {
        part: [
            PlannedPicture(random_scene(np.random.default_rng((options.seed, place, index)), combinations), file)
            for index, (file, combinations) in enumerate(files[part])
        ]
        for place, part in enumerate(PARTS)
    }


def save(folder: Path, pictures: Sequence[PlannedPicture]) -> int:
    """Draw pictures into their files and return their number."""
    for picture in pictures:
        draw(picture.scene, COLOURS[picture.scene.colour], PICTURE).save(folder / picture.file)
    return len(pictures)


def draw_all(folder: Path, pictures: list[PlannedPicture], workers: int) -> None:
    """Draw pictures into their files."""
    for parent in {(folder / picture.file).parent for picture in pictures}:
        parent.mkdir(parents=True, exist_ok=True)
    chunks = [pictures[start : start + CHUNK] for start in range(0, len(pictures), CHUNK)]
    bar: tqdm[None] = progress((), total=len(pictures), desc="shapes", unit="picture")
    with bar:
        for drawn in in_order(partial(save, folder), chunks, workers, "shapes.workers"):
            bar.update(drawn)


def _write_captions(folder: Path, pictures: list[PlannedPicture], options: Shapes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    named = ((Path(picture.file).stem, picture.scene) for picture in pictures)
    rows = (
        {
            "id": name,
            "file": f"images/{name}.png",
            "captions": captions(random.Random(f"{options.seed}/{name}"), scene, options.captions_per_image),
            "attributes": scene.attributes(),
        }
        for name, scene in named
    )
    write_jsonl(folder / "captions.jsonl", rows)


def _write_test(folder: Path, pictures: list[PlannedPicture]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    columns = ["image", "size", "count", "brightness", "position", "shape", "colour"]
    with (folder / "attributes.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        for picture in pictures:
            writer.writerow({"image": Path(picture.file).name, **picture.scene.attributes()})
    for name, wordings in (("texts", WORDINGS), ("texts_second_leads", SECOND_LEADS)):
        with (folder / f"{name}.yaml").open("w", encoding="utf-8") as stream:
            stream.write(
                "# Test sentences. In each `text` the first image has more of the attribute (more position: further right).\n"
                "# `prompts` are ordinary prompts to compare them with.\n"
            )
            yaml.safe_dump(attribute_texts(wordings), stream, sort_keys=False, width=200)


@dataclass(kw_only=True)
class ShapesEval(Workers, OutputStep):
    """Make further files for evaluations in the embedded world."""

    version: ClassVar[int] = 4

    seed: int = 0
    """Seed of all scenes and texts."""
    per_combination: PositiveInt = 10
    """Pictures per combination of shape and colour."""
    probe: PositiveInt = 100
    """Pictures per shape to fit linear probes."""

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
    return [
        PlannedPicture(
            random_scene(np.random.default_rng((seed, part, number, index)), of.combinations),
            f"{folder}/{of.name}/{index:04d}.png",
        )
        for number, of in enumerate(classes)
        for index in range(each)
    ]


def _class_row(of: WorldClass) -> dict[str, Any]:
    colour = {"colour": of.colour} if of.colour else {}
    return {"name": of.name, "shape": of.shape, **colour, "description": description(of)}


def _edits(rng: random.Random, picture: PlannedPicture) -> list[dict[str, str]]:
    """Return one edit of the colour and one of the shape, drawn at random.

    As in SIMAT, the texts name only the change. The picture tells the rest.
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
